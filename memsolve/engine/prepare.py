"""Before anything is measured: whether the device and every optimizer of a grid can be used."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Self, TypeVar

import torch
from memsolve_kernels.errors import DeviceError, InputError

from memsolve.engine.execution.local import LocalRunner
from memsolve.engine.execution.runner import Runner, call
from memsolve.engine.grid import Grid
from memsolve.environment import Environment
from memsolve.faults import (
    ExecutorError,
    MachineError,
    OutOfMemoryError,
    StepError,
    WorkerError,
    format_bytes,
    machine_error,
)
from memsolve.frequencies import power_law
from memsolve.optimizers.identity import Identity
from memsolve.optimizers.probe import ProbeResult, identify, probe

G = TypeVar("G", bound=Grid)
T = TypeVar("T")


class RefusedError(InputError):
    """Optimizers that cannot be used: all of them, a line each where there are several."""

    def __init__(self, refused: dict[str, str]) -> None:
        self.refused = {label: format_refusal(label, why) for label, why in refused.items()}
        head = (
            f"{len(refused)} optimizers cannot be used; leave them out, or run the rest, if there "
            "is one, with --skip-failing (skip_failing=True)"
        )
        super().__init__("\n  ".join([head] * (len(refused) > 1) + list(self.refused.values())))

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, str]]]:
        return type(self), (self.refused,)


@dataclass(frozen=True)
class Prepared(Generic[G]):
    """A grid that can be measured.

    Attributes:
        grid: with its device chosen, and only optimizers that can be used.
        probes: what their first steps showed, by label.
        refused: why the others cannot be used, in a sentence, by label.
        environment: where the optimizers run.
    """

    grid: G
    probes: dict[str, ProbeResult]
    refused: dict[str, str]
    environment: Environment

    @property
    def packages(self) -> Environment:
        """The packages of the optimizers, with their versions."""
        return {
            name: version
            for probe in self.probes.values()
            for name, version in probe.identity.packages.items()
        }

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


def prepare(grid: G, runner: Runner | None = None, here: Runner | None = None) -> Prepared[G]:
    """The grid with its device chosen, and only the optimizers that work.

    Every optimizer takes its first steps on a tiny memory, so that one that cannot work is reported
    before anything is measured.

    Args:
        grid: to be measured.
        runner: runs the optimizers; by default in this process.
        here: runs functions on this machine, which identifies optimizers that are given as a class
            or a function; by default `runner`.

    Raises:
        RefusedError: no optimizer can be used.
        InputError: a device that cannot be used, or frequencies that underflow.
        MachineError: there is no memory for so many frequencies.
    """
    runner = runner or LocalRunner()
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
    device = call(runner, partial(resolve_device, grid.device), cells=math.inf)
    grid, environment = replace(grid, device=device), runner.environment(device)
    probes, refused = _probe_all(grid, runner, here or runner)
    prepared = Prepared(grid, probes, {}, environment)
    return prepared.without(refused) if refused else prepared


def _probe_all(
    grid: Grid, runner: Runner, here: Runner
) -> tuple[dict[str, ProbeResult], dict[str, str]]:
    """Probes of the optimizers that can be used, and why the others cannot, by label."""
    dtype: torch.dtype = getattr(torch, grid.dtype)
    choices, refused = grid.choices, dict[str, str]()

    def run_one(runner: Runner, function: Callable[..., T], label: str, device: str) -> T | None:
        """The value of a function of label, choice, device and dtype; None if it is refused."""
        try:
            return call(runner, partial(function, label, choices[label], device, dtype))
        except (ExecutorError, WorkerError):
            raise
        except (StepError, MachineError) as error:
            refused[label] = format_refusal(label, error)
        except InputError as error:
            refused[label] = str(error)
        return None

    def identify_one(label: str) -> Identity | None:
        """By the module of a name, where it runs; else here, where its code comes from."""
        if here is runner or isinstance(choices[label], str):
            return run_one(runner, identify, label, grid.device)
        return run_one(here, identify, label, grid.device if is_usable(grid.device) else "cpu")

    identities = {label: identify_one(label) for label in choices}  # a step may change a value
    remarks = {
        label: run_one(runner, probe, label, grid.device)
        for label, each in identities.items()
        if each is not None
    }
    return {
        label: ProbeResult(remark, identity)
        for label, identity in identities.items()
        if identity is not None and (remark := remarks[label]) is not None
    }, refused


def format_refusal(label: str, why: str | StepError | MachineError) -> str:
    """Why an optimizer is refused, in a sentence that names it."""
    words = str(why)
    return words if repr(label) in words else f"optimizer {label!r} cannot be used: {words}"


def resolve_device(device: str) -> str:
    """The device of a grid; of `auto` a GPU, if there is one.

    Raises:
        DeviceError: it cannot be used.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # torch asserts where it lacks the backend
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error
    return device


def is_usable(device: str) -> bool:
    """Whether this process has a device."""
    try:
        return bool(resolve_device(device))
    except DeviceError:
        return False
