"""Before anything is measured: whether the device and every optimizer of a grid can be used."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Self, TypeVar

import torch
from memsolve_kernels.errors import DeviceError, InputError

from memsolve.engine.grid import Grid
from memsolve.engine.identity import Identity
from memsolve.engine.probe import identified, probe
from memsolve.problem import power_law

AnyGrid = TypeVar("AnyGrid", bound=Grid)


class RefusedError(InputError):
    """Optimizers that cannot be used: all of them, a line each where there are several."""

    def __init__(self, refused: dict[str, str]) -> None:
        self.refused = refused
        head = (
            f"{len(refused)} optimizers cannot be used; leave them out, or run the rest, if there "
            "is one, with --skip-failing (skip_failing=True)"
        )
        super().__init__("\n  ".join([head] * (len(refused) > 1) + list(refused.values())))


class Known(NamedTuple):
    """What is known of an optimizer before it is measured.

    Attributes:
        remark: what its first step is, in a few words; empty where there is nothing to remark.
        identity: what it is made of.
    """

    remark: str
    identity: Identity


@dataclass(frozen=True)
class Prepared(Generic[AnyGrid]):
    """A grid that can be measured.

    Attributes:
        grid: with its device chosen, and only optimizers that can be used.
        known: what was found of each of them, by label.
        refused: why the others cannot be used, in a sentence, by label.
    """

    grid: AnyGrid
    known: dict[str, Known]
    refused: dict[str, str]

    def without(self, refused: dict[str, str]) -> Self:
        """The same but for optimizers that are refused as well.

        Raises:
            RefusedError: none is left.
        """
        known = {label: found for label, found in self.known.items() if label not in refused}
        together = self.refused | refused
        if not known:
            raise RefusedError(together)
        return replace(self, grid=only(self.grid, known), known=known, refused=together)


def only(grid: AnyGrid, labels: Iterable[str]) -> AnyGrid:
    """The grid with these of its optimizers."""
    choices = grid.choices
    return replace(grid, optimizers={label: choices[label] for label in labels}, sweep=())


def prepare(grid: AnyGrid) -> Prepared[AnyGrid]:
    """The grid with its device chosen, and what of it has been seen to work.

    Every optimizer takes its first steps on a tiny memory, so that what cannot work is told before
    a study.

    Raises:
        RefusedError: no optimizer can be used.
        InputError: a device that cannot be used, or frequencies that underflow.
    """
    for alpha in grid.alphas:
        power_law(grid.items_of(max(grid.dims)), alpha)
    grid = replace(grid, device=_usable(grid.device))
    dtype: torch.dtype = getattr(torch, grid.dtype)
    identities: dict[str, Identity] = {}
    known: dict[str, Known] = {}
    refused: dict[str, str] = {}
    for label, choice in grid.choices.items():  # all before any steps: a step may change a value
        try:
            identities[label] = identified(label, choice, grid.device, dtype)
        except InputError as error:
            refused[label] = str(error)
    for label, found in identities.items():
        try:
            remark = probe(label, grid.choices[label], grid.device, dtype)
            known[label] = Known(remark, found)
        except InputError as error:
            refused[label] = str(error)
    prepared = Prepared(grid, known, {})
    return prepared.without(refused) if refused else prepared


def _usable(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it lacks the backend
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error
    return device
