"""States saved by `torch.save`, of optimizers above all, read without unpickling objects."""

import pickle
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from memsolve_kernels.errors import InputError
from torch import Tensor

import memsolve.optim  # noqa: F401 - its schedules are part of a state, and allowed in one
from memsolve.spectrum.safetensors import DTYPES
from memsolve.spectrum.stored import StoredTensor

ARCHIVE = b"PK"
"""First bytes of what `torch.save` writes since torch 1.6."""

MOMENTA = "momentum_buffer", "exp_avg"
"""Names of first moments in a state: of torch's SGD and Muon, and of the relatives of Adam. Where
there are the former, the latter are those of what Muon leaves to AdamW."""


class StateError(InputError):
    """A file that is no state of tensors."""


def is_state(path: Path) -> bool:
    """Whether a file begins like one that `torch.save` wrote."""
    with path.open("rb") as file:
        return file.read(len(ARCHIVE)) == ARCHIVE


def read_tensors(path: Path) -> list[StoredTensor]:
    """The tensors in a nested state; of an optimizer's state only the momenta, if it has any.

    Of a state with matrices for Muon and others for AdamW they are those of Muon.

    Tensors are mapped from the file, so that their values are read when they are loaded.

    Raises:
        StateError: the file is damaged, or holds objects besides tensors, numbers and texts.
    """
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        reason = _reason(error)
        raise StateError(
            f"{path} is no state of tensors that torch.load reads with weights_only=True "
            f"({reason}); save one by torch.save(optimizer.state_dict(), FILE)"
        ) from error
    tensors = [
        StoredTensor(
            name,
            tuple(tensor.shape),
            tensor.dtype if tensor.dtype in DTYPES.values() else None,
            partial(_detach, tensor),
        )
        for name, tensor in _walk(state)
    ]
    for momentum in MOMENTA:
        if momenta := [each for each in tensors if each.name.rpartition(".")[2] == momentum]:
            return momenta
    return tensors


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without torch's advice to unpickle it."""
    if isinstance(error, OSError):
        return f"{error}: the file may be truncated"
    lines = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    return lines.strip().partition("\n")[0].partition(". Please use")[0][:200]


def _walk(state: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The dense tensors with values of nested dicts and lists, by the path to them."""
    if isinstance(state, Tensor):
        if state.layout == torch.strided and not state.is_meta:
            yield prefix or "tensor", state
        return
    if isinstance(state, list | tuple):
        state = dict(enumerate(state))
    for key, entry in state.items() if isinstance(state, Mapping) else ():
        yield from _walk(entry, f"{prefix}.{key}" if prefix else str(key))


def _detach(tensor: Tensor) -> Tensor:
    return tensor.detach()
