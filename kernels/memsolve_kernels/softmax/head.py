"""The classifier of a language model as a module whose result is the loss."""

from typing import Any

import torch
from torch import Tensor, nn

from memsolve_kernels.errors import DtypeError, ShapeError
from memsolve_kernels.modes import is_distributed
from memsolve_kernels.softmax.api import softmax_loss


class SoftmaxHead(nn.Module):
    """`nn.Linear`, followed by the cross-entropy, which never stores the logits.

    It replaces the `lm_head` of a model: without targets it returns the logits. Parameters, initial
    values and keys of the state are those of `nn.Linear`, so that a checkpoint of either loads into
    the other. Under `torch.autocast` hidden states and weight are cast as those of a linear layer.
    Sharded parameters, which are DTensors placed as `Shard(0)`, stay so, and every rank has the
    same tokens; under FSDP2 a call gathers them, and each rank has tokens of its own.

    Args:
        dim: d, of the hidden states.
        num_items: N, of the targets.
        tied_to: a module whose `weight` (N, d) is that of the head, such as an `nn.Embedding`.
        bias: whether there is one; with `tied_to`, that of that module if it has one.
        ignore_index: target value of ignored tokens; None if there are none, which saves a copy of
            the hidden states.
        device: of the parameters.
        dtype: of the parameters.
        options: further keyword arguments of `softmax_loss`, for every call. Tensors move with the
            module: a parameter, such as a learned temperature, is one of the module, and others,
            such as class weights, are buffers that its state leaves out.

    Attributes:
        weight: (N, d).
        bias: (N,), or None.

    Raises:
        ShapeError: the weight of `tied_to` has another shape.
        DtypeError: `tied_to` has no weight.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        dim: int,
        num_items: int,
        *,
        tied_to: nn.Module | None = None,
        bias: bool = False,
        ignore_index: int | None = -100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.options = {"ignore_index": ignore_index, **options}
        self._tensors = [name for name, each in options.items() if isinstance(each, Tensor)]
        for name in self._tensors:
            self._register(name, self.options.pop(name))
        if tied_to is None:
            linear = nn.Linear(dim, num_items, bias=bias, device=device, dtype=dtype)
            self.weight, self.bias = linear.weight, linear.bias
            return
        self.weight = _tied_weight(tied_to, (num_items, dim))
        self.bias = getattr(tied_to, "bias", None)
        if bias and self.bias is None:
            self.bias = nn.Parameter(self.weight.new_zeros(num_items))

    def forward(self, hidden: Tensor, targets: Tensor | None = None, **options: Any) -> Tensor:
        """The loss of `softmax_loss`; the logits if there are no targets.

        Args:
            hidden: (..., d).
            targets: (...), integers in [0, N), or `ignore_index`.
            options: keyword arguments of `softmax_loss`, in place of those of the head.

        Returns:
            A scalar, or the losses (...) with `reduction="none"`. Without targets, (..., N).

        Raises:
            InputError: as `softmax_loss`.
        """
        if targets is None:
            return self.logits(hidden)
        tensors = {name: getattr(self, name) for name in self._tensors}
        options = self.options | tensors | options
        if self.bias is not None:
            options["bias"] = self.bias.to_local() if is_distributed(self.bias) else self.bias
        hidden, weight = _autocast(hidden, self.weight)
        return softmax_loss(hidden, weight, targets, **options)

    def logits(self, hidden: Tensor) -> Tensor:
        """All logits (..., N) of hidden states (..., d), for inference.

        They are those of the parameters, without a temperature among the options.
        """
        return nn.functional.linear(hidden, self.weight, self.bias)

    def _register(self, name: str, tensor: Tensor) -> None:
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor, persistent=False)

    def extra_repr(self) -> str:
        """The arguments, for `print`."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        return ", ".join([f"{self.weight.shape[1]}, {self.weight.shape[0]}", *options])


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """In the dtype of `torch.autocast`, where it is on."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    return tuple(each.to(torch.get_autocast_dtype(device)) for each in tensors)


def _tied_weight(module: nn.Module, shape: tuple[int, int]) -> nn.Parameter:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter):
        raise DtypeError(
            f"tied_to is {type(module).__name__}, which has no parameter `weight`; expected a "
            "module such as nn.Embedding"
        )
    if tuple(weight.shape) != shape:
        raise ShapeError(
            f"tied_to has a weight {tuple(weight.shape)}; expected (num_items, dim) = {shape}"
        )
    return weight
