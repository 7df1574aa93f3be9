"""Failures of optimizers and of the machine: each has its row, and all other numbers stay right."""

import errno
import math
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memsolve_kernels.errors import RangeError

from memsolve import InputError
from memsolve.cli import run_command
from memsolve.engine.execution.choose import default_runner
from memsolve.engine.execution.local import LocalRunner
from memsolve.engine.execution.process import ProcessRunner
from memsolve.engine.execution.process_settings import numerical
from memsolve.engine.execution.runner import call
from memsolve.engine.prepare import RefusedError, prepare
from memsolve.engine.results.load import load_summary
from memsolve.engine.run import run
from memsolve.faults import KilledError, MachineError, StepError, attribute_errors
from memsolve.study import (
    Grid,
    LeaderboardGrid,
    RaceGrid,
    TrainingGrid,
    capacity,
    critical_batch,
    dynamics,
    leaderboard,
)
from memsolve.study.memory import memory_of

HERE = __name__
LARGE = 8
"""Faults show at a larger dimension, or later, than where optimizers are tried out."""


class Faulty(torch.optim.Optimizer):
    """Steps along minus the gradient; with a fault at a large dimension."""

    def __init__(self, params: Any, lr: float = 1.0) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                param.sub_(param.grad, alpha=group["lr"])
                if len(param) > LARGE:
                    self.fault(param)

    def fault(self, param: torch.Tensor) -> None:
        raise NotImplementedError


class Base(BaseException):
    pass


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)

    def __bool__(self) -> bool:
        raise SystemExit(0)

    __repr__ = __str__


class OfBase(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        raise Base("no")


class OfGenerator(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        raise GeneratorExit


class Silent(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        raise UnprintableError from UnprintableError()


class SilentExit(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        raise SystemExit(UnprintableError())


class Shaped(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        param.data = torch.zeros(3, dtype=param.dtype)


class Rounded(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        param.data = param.data.bfloat16()


class Replaced(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        self.param_groups[0]["params"] = [torch.nn.Parameter(param.clone())]


class Groupless(Faulty):
    def fault(self, param: torch.Tensor) -> None:
        self.param_groups = None  # type: ignore[assignment]


FAULTS = {
    OfBase: "its step failed: no",
    OfGenerator: "its step failed: GeneratorExit",
    Silent: "its step failed: UnprintableError",
    SilentExit: "its step failed: it exits, with a UnprintableError",
    Shaped: r"it has made the weight (3,) of torch.float64, cpu, torch.strided; expected (16, 16)",
    Rounded: "torch.bfloat16",
    Replaced: "it has replaced the weight in its param_groups",
    Groupless: "its step failed: 'NoneType' object is not iterable",
}


def test_each_fault_has_its_row_and_the_others_are_right() -> None:
    grid = Grid(["sgd", *(f"{HERE}.{kind.__name__}" for kind in FAULTS), "muon"], dims=(8, 16))
    grid = replace(grid, seeds=1, num_items=64)
    summary = run(capacity, grid)
    alone = run(capacity, replace(grid, optimizers=["sgd", "muon"]))
    assert summary.fits == alone.fits
    assert len(summary.failed) == len(FAULTS)
    for failure, words in zip(summary.failed, FAULTS.values(), strict=True):
        assert words in failure.reason
        assert not failure.machine


def make_groupless(params: Any) -> Any:
    made = torch.optim.SGD(params, lr=1.0)
    made.param_groups = None  # type: ignore[assignment]
    return made


def make_base(params: Any) -> Any:
    raise Base("no licence")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("make_groupless", "its param_groups is None; expected a list of groups"),
        ("make_base", "it cannot be made: no licence"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        prepare(Grid([f"{HERE}:{name}"]))


def test_a_module_that_exits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exits_at_import.py").write_text("import sys; sys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RefusedError, match="does not import: it exits, with 0"):
        prepare(Grid(["exits_at_import.Adam"]))


class Meddler(Faulty):
    """Leaves the process in another state."""

    def fault(self, param: torch.Tensor) -> None:
        torch.set_default_dtype(torch.float16)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        np.seterr(all="raise")
        os.chdir("/")
        sys.stdout = sys.stderr
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        warnings.simplefilter("error")


def state() -> list[object]:
    return [
        numerical(),
        os.getcwd(),
        sys.stdout,
        signal.getsignal(signal.SIGINT),
        list(warnings.filters),
        random.getstate(),
        torch.get_rng_state().tolist(),
    ]


def test_the_state_of_the_process_is_put_back() -> None:
    before = state()
    grid = Grid([f"{HERE}.Meddler", "sgd", "muon"], dims=(8, 16), seeds=1, num_items=64)
    fits = run(capacity, grid).fits[1:]
    assert state() == before
    assert fits == run(capacity, replace(grid, optimizers=["sgd", "muon"])).fits


ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 34359738368 bytes. Error code 12 (Cannot allocate memory)"
)
MACHINE: dict[str, tuple[BaseException, str]] = {
    "python": (MemoryError(), "out of memory"),
    "numpy": (MemoryError("Unable to allocate 8.00 TiB for an array"), "out of memory, 8.0 TiB"),
    "torch": (ALLOCATOR, "out of memory, 32.0 GiB were requested"),
    "GPU": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "2.0 GiB",
    ),
    "C++": (RuntimeError("std::bad_alloc"), "out of memory"),
    "files": (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
    "device": (RuntimeError("CUDA error: an illegal memory access was encountered"), "illegal"),
}


@pytest.mark.parametrize("name", MACHINE)
def test_failures_of_the_machine_are_known(name: str) -> None:
    error, words = MACHINE[name]
    with pytest.raises(MachineError, match=words), attribute_errors("its step failed"):
        raise error
    with pytest.raises(MachineError, match=words), attribute_errors("its step failed"):
        raise ValueError("cannot step") from error


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file"), RuntimeError("eigh did not converge"), Base()]
)
def test_other_failures_are_the_optimizers(error: BaseException) -> None:
    with pytest.raises(StepError), attribute_errors("its step failed"):
        raise error


class Flaky(Faulty):
    """Fails where a variable of the environment says how."""

    def fault(self, param: torch.Tensor) -> None:
        if how := os.environ.get("FLAKY"):
            raise MACHINE[how][0] if how in MACHINE else RuntimeError(how)


TRAINING: dict[str, Any] = {
    "dims": (16,),
    "num_items": 64,
    "seeds": 1,
    "steps": 3,
    "schedules": ("constant",),
    "lrs": (4.0,),
}
STUDIES: dict[str, tuple[Any, Any]] = {
    "dynamics": (dynamics, TrainingGrid([f"{HERE}.Flaky", "sgd"], **TRAINING)),
    "critical-batch": (
        critical_batch,
        RaceGrid([f"{HERE}.Flaky", "sgd"], target="recovered=2", **TRAINING),
    ),
    "leaderboard": (
        leaderboard,
        LeaderboardGrid(
            {f"{HERE}.Flaky": f"{HERE}.Flaky:lr=4.0", "sgd": "sgd:lr=4.0:momentum=0"},
            alphas=(1.5,),
            dims=(16,),
            num_items=64,
            seeds=1,
            candidates=6,
            tracks=("full-gradient",),
        ),
    ),
}


def recovered(summary: Any, study: str) -> object:
    """What does not depend on time."""
    names = {"dynamics": "recovered", "critical-batch": "mean", "leaderboard": "recovered"}
    return [[getattr(point, names[study]) for point in fit.points] for fit in summary.fits]


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("how", ["torch", "files", "tired"])
def test_a_passing_failure_is_measured_again(
    study: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, grid = STUDIES[study]
    grid = replace(grid, batch_sizes=(4, 16)) if study == "critical-batch" else grid
    expected = run(kind, grid)
    monkeypatch.setenv("FLAKY", how)
    failed = run(kind, grid, tmp_path)
    assert {failure.machine for failure in failed.failed} == {how in MACHINE}
    if how in MACHINE:  # no result at all, and nothing of the others is touched
        assert [fit.optimizer for fit in failed.fits] == ["sgd"]
        assert failed.fits[0].points[0].dim == 16
    else:
        assert {fit.optimizer for fit in failed.fits} == {f"{HERE}.Flaky", "sgd"}
        assert recovered(failed, study) != recovered(expected, study)
    monkeypatch.delenv("FLAKY")
    resumed = run(kind, grid, tmp_path, resume=True)
    assert not resumed.failed
    assert recovered(resumed, study) == recovered(expected, study)


COMMAND = ["capacity", "--optimizers", "sgd,muon", "--dims", "8,16", "--seeds", "1", "--resume"]


def memory_of_small(grid: Grid, cell: Any) -> Any:
    """No memory for a large one."""
    if cell.dim > LARGE:
        raise RangeError("a table cannot be made") from ALLOCATOR
    return memory_of(grid, cell)


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    return line


def test_no_memory_for_a_memory_is_one_line_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*COMMAND, "--out", str(tmp_path)]
    with monkeypatch.context() as short:
        short.setattr("memsolve.study.one_step.base.memory_of", memory_of_small)
        assert run_command(command) == 2
    line = error_line(capsys)
    for words in ("sgd at alpha = 1.5", "32.0 GiB", "d = 16", "N = 2048", "512.0 KiB", "--dims"):
        assert words in line
    assert (tmp_path / "cells.jsonl").read_text().count('"result"') == 2
    assert run_command(command) == 0
    assert (tmp_path / "cells.jsonl").read_text().count('"result"') == 4


def test_no_memory_for_one_optimizer_leaves_the_report_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLAKY", "torch")
    options = "dynamics --dims 16 --num-items 64 --seeds 1 --steps 3 --lrs 1 --schedules"
    words = [*options.split(), "constant", "--optimizers", f"sgd,{HERE}.Flaky", "--resume"]
    command = [*words, "--out", str(tmp_path)]
    assert run_command(command) == 2
    assert f"{HERE}.Flaky at alpha = 1.5, d = 16: out of memory, 32.0 GiB" in error_line(capsys)
    assert (tmp_path / "report.html").exists()
    assert [fit.optimizer for fit in load_summary(dynamics, tmp_path).fits] == ["sgd"]
    monkeypatch.delenv("FLAKY")
    assert run_command(command) == 0
    assert not load_summary(dynamics, tmp_path).failed


def test_no_memory_before_anything_is_measured_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("memsolve.study.training.tuning.memory_of", memory_of_small)
    command = ["dynamics", "--dims", "16", "--steps", "2", "--out", str(tmp_path / "out")]
    assert run_command(command) == 2
    assert "optimizer 'sgd' cannot be tuned at alpha = 1.5: out of memory" in error_line(capsys)

    def short(*_: object) -> None:
        raise ALLOCATOR

    monkeypatch.setattr(sys.modules["memsolve.engine.prepare"], "power_law", short)
    assert run_command(["capacity", "--num-items", str(2**40), "--out", str(tmp_path / "out")]) == 2
    line = error_line(capsys)
    assert "N = 1099511627776 items alone take 8.0 TiB; lower --num-items or --dims" in line


FATAL = """
import os, time
import torch


class Fatal(torch.optim.SGD):
    def step(self):
        if len(self.param_groups[0]["params"][0]) > 8:
            self.fault()
        super().step()


class Exits(Fatal):
    def fault(self):
        os._exit(0)


class Closes(Fatal):
    def fault(self):
        os.closerange(3, 1000)


class Hangs(Fatal):
    def fault(self):
        time.sleep(1000)
"""


@pytest.mark.skipif(os.name != "posix", reason="optimizers have no process of their own")
def test_a_process_of_their_own_ends_with_one_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fatal.py").write_text(FATAL)
    monkeypatch.syspath_prepend(tmp_path)
    names = ["sgd", "fatal.Exits", "fatal.Closes", "fatal.Hangs", "muon"]
    grid = Grid(names, dims=(8, 16), seeds=1, num_items=64)
    summary = run(capacity, grid, time_limit=6)
    assert "fatal" not in sys.modules
    assert summary.fits == run(capacity, replace(grid, optimizers=["sgd", "muon"])).fits
    assert [failure.reason for failure in summary.failed] == [
        "it ended its process, with status 0",
        "it ended its process, with status 0",
        "it took longer than the time limit of 6 s",
    ]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted() -> Iterator[None]:
    with attribute_errors("its step failed"):
        raise KeyboardInterrupt
    yield


@pytest.mark.skipif(os.name != "posix", reason="optimizers have no process of their own")
def test_a_process_of_their_own_answers_and_ends_with_the_one_that_started_it() -> None:
    worker = ProcessRunner(None, math.inf)  # type: ignore[arg-type]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert call(worker, numerical) == numerical()
    finally:
        torch.set_num_threads(threads)
    with pytest.raises(StepError, match="its step failed: KeyboardInterrupt"):
        list(worker.stream(interrupted))
    with pytest.raises(RefusedError) as refusal:
        call(worker, partial(prepare, Grid(["adam"])))
    assert set(refusal.value.refused) == {"adam"}
    assert worker._running is not None
    process, connection = worker._running  # the same one, after all of these
    connection.send((_hang_after_one, ()))
    assert connection.recv() == (1,)
    connection.close()  # as where the process that started it is killed
    assert process.wait(timeout=60) == 0
    worker._running = None


def _hang_after_one() -> Iterator[int]:
    yield 1
    time.sleep(1000)


@pytest.mark.skipif(os.name != "posix", reason="optimizers have no process of their own")
def test_a_signal_is_a_failure_of_the_machine() -> None:
    worker = ProcessRunner(None, math.inf)  # type: ignore[arg-type]
    with pytest.raises(KilledError, match="ended by SIGKILL, as where memory runs out"):
        call(worker, kill)
    assert worker._running is None


class Own(torch.optim.SGD):
    pass


@pytest.mark.parametrize(
    ("optimizers", "own"),
    [
        (["sgd", "muon:steps=3", "torch.optim.AdamW:lr=0.1", "adam"], False),
        (["sgd", "elsewhere.Adam"], True),
        (["elsewhere:make:lr=1"], True),
        (["torch.optim.Muon", f"{HERE}.Own"], False),  # is imported, and may be changed here
        ({"mine": Own, "other": "elsewhere.Adam"}, False),
        ({"mine": lambda params: Own(params), "other": "elsewhere.Adam"}, False),
    ],
)
def test_who_has_a_process_of_its_own(optimizers: Any, own: bool) -> None:
    with default_runner(capacity, Grid(optimizers), None) as runner:
        assert isinstance(runner, ProcessRunner if own else LocalRunner)


def test_a_time_limit_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(InputError, match="time_limit is 0; expected a number of seconds above 0"):
        run(capacity, Grid(["sgd"]), time_limit=0)
    with pytest.raises(InputError, match="a time limit needs a process that can import"):
        run(capacity, Grid({"mine": lambda params: Own(params)}), time_limit=1)


def new_modules_of_an_optimizer() -> int:
    before = len(sys.modules)
    torch.optim.SGD([torch.zeros(1)], lr=1.0)
    return len(sys.modules) - before


def test_a_worker_has_imported_what_optimizers_need_before_anything_is_timed() -> None:
    with closing(ProcessRunner(capacity, math.inf)) as worker:
        assert call(worker, new_modules_of_an_optimizer) == 0
