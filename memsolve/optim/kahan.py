"""Compensated (Kahan) summation of parameters in half precision.

A parameter and its compensation, of the same dtype, are the high and the low part of one number: 16
bits of significand in bfloat16, 22 in float16. A step is added to their sum in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

WIDE = torch.float32
"""Dtype of the sum of a parameter and its compensation."""


def needs_compensation(param: Tensor) -> bool:
    """Whether the dtype of a parameter loses more of a step than float32 does."""
    return param.dtype in (torch.bfloat16, torch.float16)


def join(param: Tensor, compensation: Tensor) -> Tensor:
    """The sum of a parameter and its compensation, in `WIDE`."""
    return param.to(WIDE).add_(compensation)


def split(value: Tensor, param: Tensor, compensation: Tensor) -> None:
    """Write a value to a parameter, and the rest that the parameter rounds off to the other."""
    param.copy_(value)
    compensation.copy_(value - param.to(WIDE))


def join_all(params: Sequence[Tensor], compensations: Sequence[Tensor | None]) -> list[Tensor]:
    """`join` of each parameter; without a compensation, the parameter itself."""
    pairs = zip(params, compensations, strict=True)
    return [param if rest is None else join(param, rest) for param, rest in pairs]


def split_all(
    values: Sequence[Tensor], params: Sequence[Tensor], compensations: Sequence[Tensor | None]
) -> None:
    """`split` of each value of `join_all` that is not the parameter itself."""
    for value, param, rest in zip(values, params, compensations, strict=True):
        if rest is not None:
            split(value, param, rest)
