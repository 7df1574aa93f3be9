"""Before anything is measured: whether the device and every optimizer of a grid can be used."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Self, TypeVar

import torch
from memsolve_kernels.errors import DeviceError, InputError

from memsolve.engine.execution.executor import Executor, call
from memsolve.engine.execution.local import LocalExecutor
from memsolve.engine.grid import Grid
from memsolve.faults import MachineError, OutOfMemoryError, StepError, format_bytes, machine_error
from memsolve.optimizers.probe import ProbeResult, identify, probe
from memsolve.problem import power_law

G = TypeVar("G", bound=Grid)
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


@dataclass(frozen=True)
class Prepared(Generic[G]):
    """A grid that can be measured.

    Attributes:
        grid: with its device chosen, and only optimizers that can be used.
        probes: what their first steps showed, by label.
        refused: why the others cannot be used, in a sentence, by label.
    """

    grid: G
    probes: dict[str, ProbeResult]
    refused: dict[str, str]

    def without(self, refused: dict[str, str]) -> Self:
        """The same but for optimizers that are refused as well.

        Raises:
            RefusedError: none is left.
        """
        probes = {label: each for label, each in self.probes.items() if label not in refused}
        all_refused = self.refused | refused
        if not probes:
            raise RefusedError(all_refused)
        return replace(
            self, grid=with_optimizers(self.grid, probes), probes=probes, refused=all_refused
        )


def with_optimizers(grid: G, labels: Iterable[str]) -> G:
    """The grid with some of its optimizers only."""
    choices = grid.choices
    return replace(grid, optimizers={label: choices[label] for label in labels}, sweep=())


def prepare(grid: G, executor: Executor | None = None) -> Prepared[G]:
    """The grid with its device chosen, and only the optimizers that work.

    Every optimizer takes its first steps on a tiny memory, so that one that cannot work is reported
    before anything is measured.

    Args:
        grid: to be measured.
        executor: runs the optimizers; by default in this process.

    Raises:
        RefusedError: no optimizer can be used.
        InputError: a device that cannot be used, or frequencies that underflow.
        MachineError: there is no memory for so many frequencies.
    """
    executor = executor or LocalExecutor()
    num_items = grid.items_of(max(grid.dims))
    try:
        for alpha in grid.alphas:
            power_law(num_items, alpha)
    except (RuntimeError, InputError) as error:
        if machine_error(error) is None:
            raise
        size = format_bytes(8.0 * num_items)
        raise OutOfMemoryError(
            f"out of memory: the frequencies of N = {num_items} items alone take {size}; lower "
            "--num-items or --dims"
        ) from error
    grid = replace(grid, device=_resolve_device(grid.device))
    probes, refused = _probe_all(grid, executor)
    prepared = Prepared(grid, probes, {})
    return prepared.without(refused) if refused else prepared


def _probe_all(grid: Grid, executor: Executor) -> tuple[dict[str, ProbeResult], dict[str, str]]:
    """Probes of the optimizers that can be used, and why the others cannot, by label."""
    dtype: torch.dtype = getattr(torch, grid.dtype)
    choices, refused = grid.choices, dict[str, str]()

    def run_each(function: Callable[..., T], labels: Iterable[str]) -> dict[str, T]:
        """Values of a function of label, choice, device and dtype, by label."""
        values: dict[str, T] = {}
        for label in labels:
            arguments = label, choices[label], grid.device, dtype
            try:
                values[label] = call(executor, partial(function, *arguments))
            except (StepError, MachineError) as error:
                refused[label] = format_refusal(label, error)
            except InputError as error:
                refused[label] = str(error)
        return values

    identities = run_each(identify, choices)  # before any steps: a step may change a value
    remarks = run_each(probe, identities)
    return {label: ProbeResult(remarks[label], identities[label]) for label in remarks}, refused


def format_refusal(label: str, error: StepError | MachineError) -> str:
    """Why an optimizer is refused, in a sentence that names it."""
    words = str(error)
    return words if repr(label) in words else f"optimizer {label!r} cannot be used: {words}"


def _resolve_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it lacks the backend
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error
    return device
