"""Before anything is measured: whether the device and every optimizer of a grid can be used."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, NamedTuple, Self, TypeVar

import torch
from memsolve_kernels.errors import DeviceError, InputError

from memsolve.engine.calls import Calls, Here, call
from memsolve.engine.grid import Grid
from memsolve.engine.identity import Identity
from memsolve.engine.probe import identified, probe
from memsolve.faults import MachineError, OutOfMemoryError, StepError, in_units, machine_error
from memsolve.problem import power_law

AnyGrid = TypeVar("AnyGrid", bound=Grid)
T = TypeVar("T")


class RefusedError(InputError):
    """Optimizers that cannot be used: all of them, a line each where there are several."""

    def __init__(self, refused: dict[str, str]) -> None:
        self.refused = refused
        head = (
            f"{len(refused)} optimizers cannot be used; leave them out, or run the rest, if there "
            "is one, with --skip-failing (skip_failing=True)"
        )
        super().__init__("\n  ".join([head] * (len(refused) > 1) + list(refused.values())))

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, str]]]:
        return type(self), (self.refused,)


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


def prepare(grid: AnyGrid, calls: Calls | None = None) -> Prepared[AnyGrid]:
    """The grid with its device chosen, and what of it has been seen to work.

    Every optimizer takes its first steps on a tiny memory, so that what cannot work is told before
    a study.

    Args:
        grid: what is to be measured.
        calls: runs the optimizers; by default in this process.

    Raises:
        RefusedError: no optimizer can be used.
        InputError: a device that cannot be used, or frequencies that underflow.
        MachineError: there is no memory for so many frequencies.
    """
    calls = calls or Here()
    num_items = grid.items_of(max(grid.dims))
    try:
        for alpha in grid.alphas:
            power_law(num_items, alpha)
    except (RuntimeError, InputError) as error:
        if machine_error(error) is None:
            raise
        size = in_units(8.0 * num_items)
        raise OutOfMemoryError(
            f"out of memory: the frequencies of N = {num_items} items alone take {size}; lower "
            "--num-items or --dims"
        ) from error
    grid = replace(grid, device=_usable(grid.device))
    known, refused = _known(grid, calls)
    prepared = Prepared(grid, known, {})
    return prepared.without(refused) if refused else prepared


def _known(grid: Grid, calls: Calls) -> tuple[dict[str, Known], dict[str, str]]:
    """What is known of each optimizer that can be used, and why the others cannot be."""
    dtype: torch.dtype = getattr(torch, grid.dtype)
    choices, refused = grid.choices, dict[str, str]()

    def of_each(find: Callable[..., T], labels: Iterable[str]) -> dict[str, T]:
        """What a function of label, choice, device and dtype finds of each optimizer."""
        found: dict[str, T] = {}
        for label in labels:
            given = label, choices[label], grid.device, dtype
            try:
                found[label] = call(calls, partial(find, *given))
            except (StepError, MachineError) as error:
                refused[label] = refusal(label, error)
            except InputError as error:
                refused[label] = str(error)
        return found

    identities = of_each(identified, choices)  # before any steps: a step may change a value
    remarks = of_each(probe, identities)
    return {label: Known(remarks[label], identities[label]) for label in remarks}, refused


def refusal(label: str, error: StepError | MachineError) -> str:
    """Why an optimizer is refused, in a sentence that names it."""
    words = str(error)
    return words if repr(label) in words else f"optimizer {label!r} cannot be used: {words}"


def _usable(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it lacks the backend
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error
    return device
