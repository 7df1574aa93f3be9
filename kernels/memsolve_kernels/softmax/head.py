"""The classifier of a language model as a module whose result is the loss."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from memsolve_kernels.errors import DtypeError, ShapeError
from memsolve_kernels.softmax.api import softmax_loss


class SoftmaxHead(nn.Module):
    """`nn.Linear` without bias, followed by the cross-entropy, which never stores the logits.

    It replaces the `lm_head` of a model: without targets it returns the logits. Parameter, initial
    values and keys of the state are those of `nn.Linear(dim, num_items, bias=False)`, so that a
    checkpoint of either loads into the other. Under `torch.autocast` hidden states and weight are
    cast as those of a linear layer. A weight that is sharded, such as a DTensor placed as
    `Shard(0)`, stays so, with the same tokens on every rank; under FSDP2 the module's call gathers
    it, and each rank has tokens of its own.

    Args:
        dim: d, of the hidden states.
        num_items: N, of the targets.
        tied_to: a module whose `weight` (N, d) is that of the head, such as an `nn.Embedding`.
        ignore_index: target value of ignored tokens; None if there are none, which saves a copy of
            the hidden states.
        device: of the weight.
        dtype: of the weight.
        options: further keyword arguments of `softmax_loss`, for every call.

    Attributes:
        weight: (N, d).

    Raises:
        ShapeError: the weight of `tied_to` has another shape.
        DtypeError: `tied_to` has no weight.
    """

    weight: nn.Parameter

    def __init__(
        self,
        dim: int,
        num_items: int,
        *,
        tied_to: nn.Module | None = None,
        ignore_index: int | None = -100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.options = {"ignore_index": ignore_index, **options}
        if tied_to is None:
            self.weight = nn.Parameter(torch.empty(num_items, dim, device=device, dtype=dtype))
            self.reset_parameters()
        else:
            self.weight = _tied_weight(tied_to, (num_items, dim))

    def reset_parameters(self) -> None:
        """Draw the weight as `nn.Linear` does: uniform within `1 / sqrt(d)`."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, hidden: Tensor, targets: Tensor | None = None, **options: Any) -> Tensor:
        """The loss of `softmax_loss`; the logits if there are no targets.

        Args:
            hidden: (..., d).
            targets: (...), integers in [0, N), or `ignore_index`.
            options: keyword arguments of `softmax_loss`, in place of those of the head; `weights`
                have the shape of the targets.

        Returns:
            A scalar, or the losses (...) with `reduction="none"`. Without targets, (..., N).

        Raises:
            ShapeError: hidden states and targets that do not fit.
            InputError: as `softmax_loss`.
        """
        if targets is None:
            return self.logits(hidden)
        if hidden.shape[:-1] != targets.shape:
            raise ShapeError(
                f"hidden is {tuple(hidden.shape)} and targets {tuple(targets.shape)}; expected "
                "(..., d) and (...)"
            )
        options = self.options | options
        if options.get("weights") is not None:
            options["weights"] = options["weights"].reshape(-1)
        queries, outputs = _autocast(hidden.reshape(-1, hidden.shape[-1]), self.weight)
        loss = softmax_loss(queries, outputs, targets.reshape(-1), **options)
        return loss if loss.ndim == 0 else loss.reshape(targets.shape)

    def logits(self, hidden: Tensor) -> Tensor:
        """All logits (..., N) of hidden states (..., d), for inference."""
        return nn.functional.linear(hidden, self.weight)

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
