"""Every matrix-sign kernel in every preset, as its launcher launches it on meta tensors."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from memsolve_kernels.launch import Variant, record_launches
from memsolve_kernels.matrix_sign.polynomials import STOCK
from memsolve_kernels.matrix_sign.presets import (
    TABLE,
    Kind,
    ProductPolicy,
    input_precision,
)
from memsolve_kernels.matrix_sign.triton_kernels import batched, symmetric, update

_LARGE = 1024
_SCHEDULE = STOCK["polar-express"]


def variants(arch: int) -> Iterator[Variant]:
    """Each row of the table as it is launched, with every optional argument."""
    for kind in TABLE:
        for name, call in _calls(kind, TABLE[kind][arch]):
            with record_launches() as launches:
                call()
            (launch,) = launches
            yield Variant(f"matrix_sign.{name}", launch, tensor_cores=kind != "ieee")


def _calls(kind: Kind, policy: ProductPolicy) -> Iterator[tuple[str, Callable[[], object]]]:
    precision, X = input_precision(kind), _matrices(kind, _LARGE, _LARGE)
    tile = policy.symmetric
    yield f"symmetric {kind}", partial(symmetric.symmetric, X, X, 1.0, X, 1.0, tile, precision)
    yield f"update {kind}", partial(update.update, X, X, 1.0, policy.update, precision)
    side = policy.batched_to  # smaller ones, square or not, need less
    for damping in (0.1, 0.0):
        name = f"batched {kind} {side}x{side}" + (" damped" if damping else "")
        X = _matrices(kind, side, side)
        yield name, partial(batched.scale_and_iterate, X, damping, _SCHEDULE, precision)


def _matrices(kind: Kind, rows: int, columns: int) -> Tensor:
    dtype = torch.bfloat16 if kind == "half" else torch.float32
    return torch.empty(4, rows, columns, dtype=dtype, device="meta")
