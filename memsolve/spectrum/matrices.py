"""The matrices of a file: its tensors as Muon reads parameters."""

import math
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

from memsolve.optim.blocks import blocks_of
from memsolve.spectrum import safetensors, state_dict
from memsolve.spectrum.stored import StoredTensor

HINT = (
    "give .safetensors files, or a state saved by torch.save. Of a checkpoint in shards give the "
    "shards, not their index; of a torch.distributed.checkpoint save the state as one file"
)


class StoredMatrix(NamedTuple):
    """A matrix that is in a file.

    Attributes:
        name: of its tensor, after the name of the file where there are several.
        rows, columns: a tensor of more than two dimensions is flattened to (first, product of the
            others), as `Muon` does.
        dtype: as stored.
        tensor: in the file.
    """

    name: str
    rows: int
    columns: int
    dtype: torch.dtype
    tensor: StoredTensor

    @property
    def rank(self) -> int:
        """The number of singular values."""
        return min(self.rows, self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """The smaller and the larger side."""
        return self.rank, max(self.rows, self.columns)

    def load(self) -> Tensor:
        """Its values (rows, columns), on the CPU."""
        return self.tensor.load().reshape(self.rows, self.columns)


class Contents(NamedTuple):
    """The matrices of some files.

    Attributes:
        matrices: in the order of the files.
        omissions: why other tensors are left out, and how many for each reason.
    """

    matrices: list[StoredMatrix]
    omissions: Counter[str]


def read_matrices(
    paths: Sequence[Path], match: Sequence[str] = (), skip: Sequence[str] = ()
) -> Contents:
    """The matrices of files, without their values.

    Args:
        paths: of the files.
        match: patterns, as `*.mlp.*`; a tensor's name must match one of them, if there are any.
        skip: patterns of names to leave out.

    Raises:
        InputError: a file of another format, a damaged one, or no matrices.
        OSError: a file cannot be read.
    """
    contents = Contents([], Counter())
    for path in paths:
        for tensor in _read_tensors(path):
            if reason := _reason_to_omit(tensor, match, skip):
                contents.omissions[reason] += 1
            else:
                contents.matrices.append(_as_matrix(tensor, path if len(paths) > 1 else None))
    if not contents.matrices:
        names, reasons = ", ".join(map(str, paths)), format_omissions(contents)
        raise InputError(f"{names} holds no matrices ({reasons or 'no tensors'})")
    return contents


def format_omissions(contents: Contents) -> str:
    """The reasons with their counts, as `3 vectors, 1 of no floating dtype`."""
    return ", ".join(f"{count} {reason}" for reason, count in contents.omissions.items())


def _read_tensors(path: Path) -> list[StoredTensor]:
    if path.is_dir():
        raise InputError(f"{path} is a folder; {HINT}")
    if safetensors.is_safetensors(path):
        return safetensors.read_tensors(path)
    if state_dict.is_state(path):
        return state_dict.read_tensors(path)
    raise InputError(f"{path} is neither a safetensors file nor one of torch.save; {HINT}")


def _reason_to_omit(tensor: StoredTensor, match: Sequence[str], skip: Sequence[str]) -> str | None:
    shape = tensor.shape
    if match and not any(fnmatchcase(tensor.name, pattern) for pattern in match):
        return "that --match does not name"
    if any(fnmatchcase(tensor.name, pattern) for pattern in skip):
        return "that --skip names"
    if len(shape) < 2 or (len(shape) > 2 and math.prod(shape) == max(shape)):
        return "vectors or numbers"
    if not math.prod(shape):
        return "empty"
    if tensor.dtype is None:
        return "of other dtypes than float64, float32, float16 and bfloat16"
    return None


def _as_matrix(tensor: StoredTensor, path: Path | None) -> StoredMatrix:
    assert tensor.dtype is not None
    _, rows, columns = blocks_of(tensor.shape, batch_dims=0, heads=1)
    name = tensor.name if path is None else f"{path.name}: {tensor.name}"
    return StoredMatrix(name, rows, columns, tensor.dtype, tensor)
