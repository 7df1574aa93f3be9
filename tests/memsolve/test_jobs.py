"""Studies by executors: the numbers of one process, whatever runs beside them and whatever ends."""

import logging
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from memsolve import InputError
from memsolve.cli import run_command
from memsolve.engine import Cell
from memsolve.engine.execution import cluster as cluster_module
from memsolve.engine.execution.cluster import processes
from memsolve.engine.execution.dask_executor import DaskExecutor
from memsolve.engine.execution.task import Answer
from memsolve.engine.prepare import RefusedError
from memsolve.engine.run import run
from memsolve.faults import ExecutorError, WorkerError
from memsolve.optimizers.choices import Choice
from memsolve.study import (
    Grid,
    LeaderboardGrid,
    RatesGrid,
    TrainingGrid,
    capacity,
    dynamics,
    leaderboard,
    rates,
    saturation,
)
from memsolve.study.one_step.base import StepResult

pytest.importorskip("distributed")


class Random(torch.optim.SGD):
    """Draws from the three generators that there are."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        import random

        (param,) = self.param_groups[0]["params"]
        size = random.random() + np.random.rand()  # noqa: NPY002
        param.sub_(param.grad * (torch.rand_like(param) > 0.5) * size)


def random_of_a_name(params: Any) -> torch.optim.Optimizer:
    return Random(params, lr=1.0)


def local_choices() -> dict[str, Choice]:
    """A lambda, a class and a function that no other process can import."""

    class Local(Random):
        pass

    return {
        "lambda": lambda params: torch.optim.SGD(params, lr=0.5),
        "local class": lambda params: Local(params, lr=1.0),
        "module": Random,
    }


CHOICES = {"sgd": "sgd", "muon": "muon", "named": f"{__name__}:random_of_a_name"}
SMALL = Grid({**CHOICES, **local_choices()}, dims=(4, 8), seeds=2, device="cpu")


class Inline(Executor):
    """Runs each call at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Altered(Inline):
    """Changes the answers after the first ones."""

    def __init__(self, change: Callable[[Answer], Answer], first: int = 0) -> None:
        self.change, self.left = change, first

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.left -= 1
        if self.left >= 0:
            return future
        changed: Future[Any] = Future()
        changed.set_result(pickle.dumps(self.change(pickle.loads(future.result()))))
        return changed


class Failing(Inline):
    """Fails in one way after the first calls."""

    def __init__(self, fail: Callable[[Future[Any]], object], first: int = 0) -> None:
        self.fail, self.left = fail, first

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.left -= 1
        if self.left >= 0:
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        self.fail(future)
        return future


@pytest.fixture(scope="module")
def cluster() -> Iterator[Executor]:
    """Two processes of Dask's."""
    with processes(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `SMALL`, measured in this process."""
    folder = tmp_path_factory.mktemp("serial") / "study"
    run(capacity, SMALL, folder)
    return folder


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"))


@pytest.mark.parametrize("make", [Inline, lambda: ThreadPoolExecutor(2), pool, None])
def test_every_executor_gives_the_files_of_one_process(
    cluster: Executor, serial: Path, tmp_path: Path, make: Callable[[], Executor] | None
) -> None:
    with nullcontext(cluster) if make is None else make() as executor:
        run(capacity, SMALL, tmp_path, executor=executor)
    for name in ("points.csv", "summary.json"):
        assert (tmp_path / name).read_bytes() == (serial / name).read_bytes()


def test_a_study_goes_on_with_another_executor(serial: Path, tmp_path: Path) -> None:
    lines = (serial / "cells.jsonl").read_bytes().splitlines(keepends=True)
    for executor in (None, Inline()):
        folder = tmp_path / type(executor).__name__
        folder.mkdir()
        (folder / "cells.jsonl").write_bytes(b"".join(lines[:-5]))
        run(capacity, SMALL, folder, resume=True, executor=executor)
        assert (folder / "points.csv").read_bytes() == (serial / "points.csv").read_bytes()
        assert len((folder / "cells.jsonl").read_bytes().splitlines()) == len(lines)


@pytest.mark.parametrize("executor", [Inline(), None], ids=["inline", "cluster"])
def test_tuning_goes_on_key_by_key_to_the_same_trials(
    cluster: Executor, tmp_path: Path, executor: Executor | None
) -> None:
    grid = TrainingGrid(("sgd",), dims=(4, 8), seeds=2, steps=3, schedules=("constant",))
    one = run(dynamics, grid, tmp_path / "one")
    many = run(dynamics, grid, tmp_path / "many", executor=executor or cluster)
    assert all(point.seconds is None for fit in many.fits for point in fit.points)
    for first, second in zip(one.fits, many.fits, strict=True):
        assert second.points == [replace(point, seconds=None) for point in first.points]
        assert all(point.seconds for point in first.points)
        assert "ms a step" not in dynamics.detail(second.points[0])
    rows = [(tmp_path / name / "points.csv").read_text().splitlines() for name in ("one", "many")]
    assert [row for row in rows[0] if ",seconds," not in row] == rows[1]


def test_rates_go_on_key_by_key_to_the_same_trials() -> None:
    grid = RatesGrid(("sgd",), dims=(4, 8), seeds=1, steps=2, num_items=64, gradients=["exact"])
    assert run(rates, grid, executor=Inline()) == run(rates, grid)


def test_the_longest_groups_are_first_and_share_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    grid = Grid(("sgd", "muon"), dims=(4, 16, 8), seeds=1, num_items=64, batch_sizes=(24, 2))
    with caplog.at_level(logging.INFO, "memsolve.engine.parallel"):
        run(saturation, grid, executor=Inline())
    pattern = r"(\d+) cells from .*dim=(\d+), .*batch_size=(\w+)"
    groups = [re.search(pattern, record.getMessage()) for record in caplog.records]
    assert [group and group.groups() for group in groups] == [
        ("2", dim, size)
        for dim, size in (
            *(("16", "None"), ("8", "None"), ("16", "24"), ("4", "None"), ("8", "24")),
            *(("4", "24"), ("16", "2"), ("8", "2"), ("4", "2")),
        )
    ]


def test_timed_runs_have_the_machine_for_themselves(
    cluster: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"num_items": 64, "candidates": 6, "tracks": ("one-step",)}
    grid = LeaderboardGrid(("sgd", "muon"), alphas=(1.5,), dims=(4, 8), seeds=2, **settings)
    with caplog.at_level(logging.INFO, "memsolve.engine.parallel"):
        many = run(leaderboard, grid, executor=cluster)
    intervals = []
    for record in caplog.records:
        start, stop, _, _, cell = cast("tuple[Any, ...]", record.args)
        intervals.append((start, stop, leaderboard.is_timed(grid, cell)))
    timed = [(start, stop) for start, stop, is_timed in intervals if is_timed]
    assert len(timed) == 2 * 2
    for start, stop in timed:
        overlapping = [each for each in intervals if each[0] < stop and start < each[1]]
        assert overlapping == [(start, stop, True)]
    one = run(leaderboard, grid)
    for first, second in zip(one.fits, many.fits, strict=True):
        assert (first.optimizer, first.estimate) == (second.optimizer, second.estimate)
        for point, other in zip(first.points, second.points, strict=True):
            times = {name: getattr(point, name) for name in ("seconds", "core_seconds")}
            assert replace(other, **times) == point


def test_progress_counts_the_cells_that_follow() -> None:
    counts = [0, 0]

    def progress(name: str, total: int, done: int) -> AbstractContextManager[Any]:
        counts[0] += total - done

        def advance(description: str, more: int = 0) -> None:
            counts[0] += more
            counts[1] += 1

        return nullcontext(advance)

    grid = TrainingGrid(("sgd",), dims=(4,), seeds=1, steps=2, schedules=("constant",))
    run(dynamics, grid, executor=Inline(), progress=progress)
    assert counts[0] == counts[1] > 3


class Unfit(torch.optim.SGD):
    """Fails at one dimension."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        (param,) = self.param_groups[0]["params"]
        if len(param) == 8 and param.any():
            raise ValueError("unfit")
        param.sub_(param.grad)


def test_a_failed_optimizer_is_not_tuned_further(tmp_path: Path) -> None:
    grid = TrainingGrid(
        {"unfit": Unfit, "sgd": "sgd"}, dims=(4, 8), seeds=1, steps=2, schedules=("constant",)
    )
    cells = {}
    for name, executor in {"one": None, "many": Inline()}.items():
        run(dynamics, grid, tmp_path / name, executor=executor)
        lines = (tmp_path / name / "cells.jsonl").read_text().splitlines()
        cells[name] = sum('"unfit"' in line and '"dim": 4' in line for line in lines)
    assert 0 < cells["many"] <= cells["one"]


class Killing(torch.optim.SGD):
    """Kills its process at one dimension."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        (param,) = self.param_groups[0]["params"]
        if len(param) == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        param.sub_(param.grad)


def test_a_cell_that_kills_its_worker_fails_alone(cluster: Executor) -> None:
    grid = replace(SMALL, optimizers={"killing": Killing} | SMALL.choices, dims=(4, 8, 16))
    summary = run(capacity, grid, executor=cluster)
    (failure,) = summary.failed
    assert (failure.optimizer, failure.dim, failure.cells) == ("killing", 8, 2)
    assert "its worker has ended" in failure.reason
    assert summary.fits == run(capacity, replace(SMALL, dims=(4, 8, 16))).fits


def test_a_result_lost_with_its_worker_is_answered(
    monkeypatch: pytest.MonkeyPatch, cluster: Executor
) -> None:
    """With Dask's own executor, the study would wait for ever."""
    assert isinstance(cluster, DaskExecutor)

    async def lose(*_: Any, **__: Any) -> None:
        raise EOFError("the worker is no more")

    monkeypatch.setattr(cluster._client, "gather", lose)
    with pytest.raises(EOFError, match="the worker is no more"):
        cluster.submit(abs, -1).result(timeout=60)


def test_a_lost_group_is_measured_again_alone() -> None:
    lost: Sequence[int] = [9, 10]  # after the device, the environment, the probes and the cells
    calls = iter(range(1000))

    class Losing(Inline):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if next(calls) not in lost:
                return super().submit(fn, *args, **kwargs)
            future: Future[Any] = Future()
            future.set_exception(EOFError("the worker is no more"))
            return future

    grid = replace(SMALL, optimizers=("sgd", "muon"))
    assert run(capacity, grid, executor=Losing()) == run(capacity, grid)
    assert next(calls) == 7 + 4 + 4


@pytest.mark.parametrize(
    ("first", "changed", "message"),
    [
        (0, {"torch": "0.0"}, r"has torch '0\.0', and this process has .*install the same there"),
        (0, {"threads": 99}, r"has threads 99, and this process has \d+"),
        (
            3,
            {"device": "an abacus"},
            r"has device 'an abacus', and process \d+ of .*equal machines",
        ),
    ],
)
def test_a_worker_of_another_environment_is_refused(
    tmp_path: Path, first: int, changed: dict[str, Any], message: str
) -> None:
    def change(answer: Answer) -> Answer:
        return answer._replace(environment=answer.environment | changed)

    with pytest.raises(WorkerError, match=message):
        run(capacity, SMALL, tmp_path, executor=Altered(change, first))
    assert not (tmp_path / "points.csv").exists()


def test_a_worker_with_another_release_of_a_package_is_refused() -> None:
    pytest.importorskip("pytorch_optimizer")

    def change(answer: Answer) -> Answer:
        environment = dict(answer.environment)
        if "pytorch_optimizer" in environment:
            environment["pytorch_optimizer"] = "0.1"
        return answer._replace(environment=environment)

    import pytorch_optimizer

    grid = replace(SMALL, optimizers={"lion": pytorch_optimizer.Lion})
    with pytest.raises(WorkerError, match=r"has pytorch_optimizer '0\.1', and the study has"):
        run(capacity, grid, executor=Altered(change))


def raise_import_error(future: Future[Any]) -> None:
    future.set_exception(ModuleNotFoundError("No module named 'memsolve'"))


def cancel(future: Future[Any]) -> None:
    future.cancel()
    future.set_running_or_notify_cancel()


def refuse(future: Future[Any]) -> None:
    raise RuntimeError("cannot schedule new futures after shutdown")


@pytest.mark.parametrize(
    ("fail", "kind", "message"),
    [
        (raise_import_error, WorkerError, "cannot run memsolve: No module named 'memsolve'"),
        (cancel, ExecutorError, "has cancelled its tasks: has its scheduler ended?"),
        (refuse, ExecutorError, r"takes no more tasks \(RuntimeError\)"),
    ],
)
@pytest.mark.parametrize("first", [0, 13])
def test_an_executor_that_has_ended_ends_the_study_in_one_line(
    tmp_path: Path, fail: Any, kind: type[InputError], message: str, first: int
) -> None:
    with pytest.raises(kind, match=message) as caught:
        run(capacity, SMALL, tmp_path, executor=Failing(fail, first))
    assert "\n" not in str(caught.value)


def test_refusals_and_errors_of_a_study_come_back() -> None:
    grid = Grid(["sgd", "torch.optim.Adam:lr=-1"], dims=(4, 8), seeds=1)
    messages = []
    for executor in (None, Inline()):
        with pytest.raises(RefusedError) as caught:
            run(capacity, grid, executor=executor)
        messages.append(str(caught.value))
        summary = run(capacity, grid, executor=executor, skip_failing=True)
        assert [fit.optimizer for fit in summary.fits] == ["sgd"]
    assert messages[0] == messages[1]

    class Wrong(type(capacity)):  # type: ignore[misc]
        def measure(self, grid: Grid, cells: Sequence[Cell]) -> Iterator[StepResult]:
            raise ZeroDivisionError("of my study")

    with pytest.raises(RuntimeError, match=r"in process \d+ of (?s:.*)of my study"):
        run(Wrong(), Grid(["sgd"], dims=(4, 8), seeds=1), executor=Inline())


def test_processes_share_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def visible() -> list[str]:
        return [
            cluster_module._visible_gpu(job).get("CUDA_VISIBLE_DEVICES", "") for job in range(3)
        ]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible() == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert visible() == ["5", "5", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible() == ["", "", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "0"], "--jobs is 0; expected a whole number"),
        (["--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"], "give one"),
        (["--jobs", "2", "--dims", "many"], "--dims is 'many'; expected whole numbers"),
        (["--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler at tcp://127.0.0.1:1"),
        (["--scheduler", "nowhere"], "no Dask scheduler at nowhere"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT", 0.2)
    assert run_command(["capacity", *options]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_without_dask_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run_command(["capacity", "--jobs", "2"]) == 2
    assert "pip install '.[cluster]'" in capsys.readouterr().err


COMMAND = "capacity", "--optimizers", "sgd,muon", "--dims", "32,48,64", "--seeds", "20"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_end_of_the_command_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    import psutil

    command = [sys.executable, "-m", "memsolve", *COMMAND, "--jobs", "2", "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        cells, until = tmp_path / "out/cells.jsonl", time.monotonic() + 120
        while not (cells.exists() and cells.stat().st_size > 3000) and time.monotonic() < until:
            time.sleep(0.02)
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 3
        if how is signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        _, errors = process.communicate(timeout=120)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert not (tmp_path / "out/summary.json").exists()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert errors.count("\n") == 1
        assert "goes on with --resume" in errors


def test_an_interrupt_while_workers_start_is_one_line(tmp_path: Path) -> None:
    """The server that forks workers is then importing torch."""
    import psutil

    command = [sys.executable, "-m", "memsolve", *COMMAND, "--jobs", "2", "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until = time.monotonic() + 120
        started: list[psutil.Process] = []
        while not any("forkserver" in part for part in arguments(started)):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.02)
            started = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=120)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert "goes on with --resume" in errors


def arguments(processes: Sequence[Any]) -> list[str]:
    """The arguments of all processes that are still there."""
    import psutil

    words: list[str] = []
    for process in processes:
        with suppress(psutil.Error):
            words += process.cmdline()
    return words
