"""Checks of the arguments of a memory's methods: always shapes, dtypes and devices."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from memsolve_kernels.errors import DeviceError, DtypeError, NonFiniteError, RangeError, ShapeError
from memsolve_kernels.modes import is_readable
from torch import Tensor

from memsolve.frequencies import Batch

if TYPE_CHECKING:
    from memsolve.problem import AssociativeMemory


def check_batch(memory: "AssociativeMemory", batch: Batch, **matrices: Tensor) -> None:
    """Check the arguments of a method: a batch, and matrices (d, d) by name."""
    items, weights = batch
    if items.ndim != 1 or items.shape != weights.shape:
        raise ShapeError(
            f"batch.items has shape {tuple(items.shape)} and batch.weights "
            f"{tuple(weights.shape)}; expected the same (U,)"
        )
    _check_items(memory, "batch.items", items)
    _check_matrices(memory, matrices)
    _check_values(memory, "batch.items", items, {"batch.weights": weights, **matrices})


def check_items(memory: "AssociativeMemory", items: Tensor, matrices: Mapping[str, Tensor]) -> None:
    """Check items (M,) and matrices (d, d) by name."""
    _check_items(memory, "items", items)
    _check_matrices(memory, matrices)
    _check_values(memory, "items", items, matrices)


def _check_matrices(memory: "AssociativeMemory", matrices: Mapping[str, Tensor]) -> None:
    for name, matrix in matrices.items():
        if matrix.shape != (memory.dim, memory.dim):
            raise ShapeError(
                f"{name} has shape {tuple(matrix.shape)}; expected {(memory.dim, memory.dim)}"
            )
        if matrix.dtype != memory.dtype:
            raise DtypeError(f"{name} is {matrix.dtype}; the memory is {memory.dtype}")
        _check_device(memory, name, matrix)


def _check_items(memory: "AssociativeMemory", name: str, items: Tensor) -> None:
    if items.dtype != torch.int64:
        raise DtypeError(f"{name} is {items.dtype}; expected torch.int64")
    _check_device(memory, name, items)


def _check_device(memory: "AssociativeMemory", name: str, tensor: Tensor) -> None:
    if tensor.device != memory.device:
        raise DeviceError(f"{name} is on {tensor.device}; the memory on {memory.device}")


def _check_values(
    memory: "AssociativeMemory", name: str, items: Tensor, numbers: Mapping[str, Tensor]
) -> None:
    """Check the range of items, and that numbers are finite, if all can be read."""
    if not is_readable(items, *numbers.values()):
        return
    for number_name, tensor in numbers.items():
        if not tensor.isfinite().all():
            raise NonFiniteError(f"{number_name} holds NaN or infinity")
    if len(items) and not 0 <= int(items.min()) <= int(items.max()) < memory.num_items:
        raise RangeError(
            f"{name} runs from {int(items.min())} to {int(items.max())}; "
            f"expected [0, {memory.num_items})"
        )
