"""Options of the loss beyond its queries, outputs and targets: their checks, and their use."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from memsolve_kernels.errors import InputError, RangeError, ShapeError
from memsolve_kernels.modes import is_readable
from memsolve_kernels.softmax.partials import accumulation_dtype
from memsolve_kernels.softmax.tensor_checks import (
    check_dense,
    check_device,
    check_dtype,
    check_finite,
)

ALIGNMENT = 16  # columns, to a multiple of which outputs with a bias are padded on a GPU
CAP = (
    "logit_cap={!r} is not supported: the tanh is one more exponential a logit in every pass, and "
    "its derivatives weight the sums of loss, gradient and Hessian apart, so that each would need "
    "another kernel; z_loss keeps logits small without a cap"
)


class LossOptions(NamedTuple):
    """Options of a loss.

    Attributes:
        z_loss: coefficient of the squared log-partition.
        label_smoothing: share of the targets that is spread over all items.
        temperature: number or scalar tensor that divides all logits.
        bias: (N,), or this rank's (N_r,), added to the logits of the items.
        class_weights: (N,), of the terms of the cross-entropy.
        logit_cap: not supported.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    temperature: float | Tensor | None = None
    bias: Tensor | None = None
    class_weights: Tensor | None = None
    logit_cap: float | None = None

    @property
    def need_log_odds_only(self) -> bool:
        """Whether the loss of a query is a multiple of that of its log-odds."""
        return self.z_loss == 0 and self.label_smoothing == 0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The options that are tensors, by name."""
        return {name: each for name, each in self._asdict().items() if isinstance(each, Tensor)}

    @property
    def shared_bits(self) -> list[Tensor]:
        """All that has to be equal on every rank of a group, as tensors on any device."""
        numbers = [float(self.z_loss), float(self.label_smoothing), float(self.bias is not None)]
        if not isinstance(self.temperature, Tensor):
            numbers.append(1.0 if self.temperature is None else float(self.temperature))
        tensors = [self.temperature, self.class_weights]
        shared = [each.reshape(-1) for each in tensors if isinstance(each, Tensor)]
        return [torch.tensor(numbers, dtype=torch.float64), *shared]


def check_options(options: LossOptions, queries: Tensor, num_items: int) -> None:
    """Raise unless the options are valid for the queries and the outputs.

    Args:
        options: of the loss.
        queries: (B, d), valid.
        num_items: N; of the outputs that the bias belongs to, and the class weights but in a group.

    Raises:
        RangeError: a number outside its range.
        InputError: another subclass for tensors that do not fit, or an option without support.
    """
    if options.logit_cap is not None:
        raise InputError(CAP.format(options.logit_cap))
    _check_number("z_loss", options.z_loss, math.inf)
    _check_number("label_smoothing", options.label_smoothing, 1.0)
    _check_temperature(options.temperature, queries)
    if options.bias is not None:
        _check_items("bias", options.bias, queries, num_items)
        _check_range(options.bias, options.temperature, queries.dtype)


def check_class_weights(class_weights: Tensor | None, queries: Tensor, num_items: int) -> None:
    """Raise unless there are none, or valid ones for all items."""
    if class_weights is None:
        return
    _check_items("class_weights", class_weights, queries, num_items)
    if class_weights.requires_grad:
        raise InputError("class_weights have no gradient: pass class_weights.detach()")
    if is_readable(class_weights) and class_weights.numel() and class_weights.min() < 0:
        raise RangeError("class_weights must be at least zero, and one is not")


def divide_by_temperature(options: LossOptions, queries: Tensor) -> tuple[LossOptions, Tensor]:
    """Options without a temperature, and the queries whose logits it has divided."""
    temperature, divided = options.temperature, queries
    if temperature is None:
        return options, queries
    if isinstance(temperature, Tensor):
        temperature = temperature.reshape(())
        divided = queries.to(accumulation_dtype(queries.dtype))  # for its gradient, which is a sum
    bias = None if options.bias is None else options.bias / temperature
    rows = (divided / temperature).to(queries.dtype)
    return options._replace(temperature=None, bias=bias), rows


def append_bias(bias: Tensor, queries: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and outputs whose logits have the bias: it takes more dimensions.

    The queries have ones there. In half precision the bias is a sum of three numbers, which have
    all its bits; below the range of the dtype it is the lowest number. On a GPU zeros fill up a
    multiple of 16 dimensions.

    Args:
        bias: (N,), in the dtype of outputs or sums.
        queries: (B, d).
        outputs: (N, d).
    """
    columns, rest = [], bias.clamp(min=torch.finfo(outputs.dtype).min)
    for _ in range(3 if outputs.element_size() == 2 else 1):
        columns.append(rest.to(outputs.dtype))
        rest = rest - columns[-1].to(rest.dtype)
    count = len(columns)
    padding = -(outputs.shape[1] + count) % ALIGNMENT if outputs.is_cuda else 0
    ones = queries.new_ones(queries.shape[0], count)
    zeros = [each.new_zeros(each.shape[0], padding) for each in (queries, outputs)]
    extended = torch.cat([outputs, torch.stack(columns, 1), zeros[1]], 1)
    return torch.cat([queries, ones, zeros[0]], 1), extended


def _check_number(name: str, value: object, limit: float) -> None:
    number = value if isinstance(value, (int, float)) else math.nan
    if not 0 <= number <= limit or number == math.inf:  # a compiler traces no math.isinf
        below = "" if limit == math.inf else f" and at most {limit:g}"
        raise RangeError(f"{name} is {value!r}; expected a number of at least 0{below}")


def _check_temperature(temperature: object, queries: Tensor) -> None:
    if temperature is None:
        return
    if not isinstance(temperature, Tensor):
        if not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
            raise RangeError(f"temperature is {temperature!r}; expected a positive number")
        return
    if temperature.numel() != 1 or not temperature.is_floating_point():
        raise ShapeError(
            f"temperature is a tensor {tuple(temperature.shape)} in {temperature.dtype}; expected "
            "one floating-point number, or divide the queries for one of each query"
        )
    check_device(queries, temperature=temperature)
    if is_readable(temperature):
        _check_temperature(float(temperature.detach()), queries)


def _check_range(bias: Tensor, temperature: float | Tensor | None, dtype: torch.dtype) -> None:
    """Raise if a bias on a CPU is larger than the outputs that will hold it may be."""
    name, added = "bias", bias
    if temperature is not None:
        name, added = "bias / temperature", bias / temperature
    if not is_readable(added) or added.numel() == 0:
        return
    largest, limit = float(added.detach().amax()), torch.finfo(dtype).max
    if largest > limit:
        raise RangeError(
            f"{name} is up to {largest:g}; expected at most {limit:g} with outputs in {dtype}: "
            "pass queries and outputs in bfloat16 or float32, whose range is larger"
        )


def _check_items(name: str, tensor: Tensor, queries: Tensor, num_items: int) -> None:
    check_dense(**{name: tensor})
    if tensor.shape != (num_items,):
        raise ShapeError(
            f"{name} {tuple(tensor.shape)} must hold one number for each of the {num_items} items"
        )
    check_dtype(queries, **{name: tensor})
    check_device(queries, **{name: tensor})
    check_finite(**{name: tensor})
