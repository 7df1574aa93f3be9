"""Checks of one tensor among the arguments of the softmax functions."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from memsolve_kernels.errors import DeviceError, DtypeError, NonFiniteError
from memsolve_kernels.modes import is_readable
from memsolve_kernels.softmax.interface import in_accumulated_parts, in_parts
from memsolve_kernels.softmax.partials import accumulation_dtype

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_finite(**tensors: Tensor) -> None:
    """Raise NonFiniteError if a tensor on a CPU holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not is_readable(tensor):
            continue
        tensor = tensor.detach()
        if not all(map(_is_finite, in_accumulated_parts(tensor))):
            _raise_non_finite(name, tensor)


def _is_finite(part: Tensor) -> bool:
    """Whether all elements are finite: by their sum, which is much cheaper than `isfinite`."""
    return math.isfinite(part.sum()) or all(
        map(math.isfinite, part.aminmax())
    )  # a sum may overflow


def _raise_non_finite(name: str, tensor: Tensor) -> None:
    count, first, start = 0, None, 0
    for part in in_parts(tensor):
        wrong = (~part.isfinite()).nonzero()
        if first is None and wrong.shape[0]:
            first = (start + int(wrong[0, 0]), *map(int, wrong[0, 1:]))
        count, start = count + wrong.shape[0], start + part.shape[0]
    assert first is not None
    raise NonFiniteError(
        f"{name}[{', '.join(map(str, first))}] is {float(tensor[first])}; every element must be "
        f"finite ({count} of {tensor.numel()} are not)"
    )


def check_dense(**tensors: object) -> None:
    """Raise DtypeError for what is no dense tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DtypeError(
                f"{name} has type {type(tensor).__name__}; expected a torch.Tensor: "
                f"torch.as_tensor({name})"
            )
        if tensor.layout != torch.strided or tensor.is_nested:
            layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
            raise DtypeError(
                f"{name} has layout {layout}; expected a dense tensor: {name}.to_dense()"
            )


def check_dtype(queries: Tensor, **others: Tensor) -> None:
    """Raise DtypeError unless tensors have the dtype of the queries or of their sums."""
    dtypes = {queries.dtype, accumulation_dtype(queries.dtype)}
    for name, tensor in others.items():
        if tensor.dtype not in dtypes:
            raise DtypeError(
                f"{name} must be {' or '.join(sorted(map(str, dtypes)))} for {queries.dtype} "
                f"queries, got {tensor.dtype}"
            )


def check_device(queries: Tensor, **others: Tensor) -> None:
    """Raise DeviceError unless tensors are on the device of the queries."""
    for name, tensor in others.items():
        if tensor.device != queries.device:
            verb = "is" if name in ("bias", "temperature", "log_partition") else "are"
            raise DeviceError(
                f"{name} {verb} on {tensor.device} and queries on {queries.device}; move "
                "them to one device"
            )


def names(dtypes: Iterable[torch.dtype]) -> str:
    """As a list in a sentence."""
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
