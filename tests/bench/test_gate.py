"""The gate finds what is planted and lets the rest pass: on told samples, and on real trees."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cases import QUICK
from bench.gate import check
from bench.gate.__main__ import verdict
from bench.gate.planted import forgetful, slower
from bench.gate.report import Report
from bench.gate.timing import MOST_ROUNDS, ROUNDS, Three, compare
from bench.gate.tree import ROOT, WorkerError, place, workers

GRADIENT = next(c.name for c in QUICK if c.name.startswith("softmax_gradient") and "cpu" in c.name)


class Machine:
    """A machine with a drift that all processes share, and noise that each has by itself."""

    def __init__(self, seed: int, noise: float = 0.08) -> None:
        self.generator = np.random.default_rng(seed)
        self.noise, self.drift = noise, 0.0

    def process(self, factor: float) -> Callable[[], float]:
        """A process whose call takes `factor` where nothing disturbs it."""

        def sample() -> float:
            self.drift += self.generator.normal(0, 0.02)
            delay = self.generator.exponential(self.noise)
            if self.generator.random() < 0.1:
                delay += self.generator.exponential(1.0)
            return float(factor * np.exp(self.drift) * (1 + delay))

        return sample


def test_a_commit_beside_itself_passes() -> None:
    for seed in range(100):
        machine = Machine(seed)
        assert not compare(Three(*(machine.process(1.0) for _ in range(3)))).slower


def test_a_slowdown_of_30_percent_is_found() -> None:
    for seed in range(100):
        machine = Machine(seed)
        timing = compare(Three(machine.process(1.0), machine.process(1.0), machine.process(1.3)))
        assert timing.conclusive
        assert timing.slower


def test_a_speedup_and_a_slowdown_of_3_percent_pass() -> None:
    for factor in (0.7, 1.03):
        machine = Machine(0, noise=0.02)
        samplers = machine.process(1.0), machine.process(1.0), machine.process(factor)
        assert not compare(Three(*samplers)).slower


def test_processes_that_differ_by_chance_raise_the_bar() -> None:
    """Where base against itself is off by 20%, head may be too."""
    machine = Machine(0, noise=0.01)
    timing = compare(Three(machine.process(1.0), machine.process(1.2), machine.process(1.2)))
    assert timing.noise > 1.15
    assert not timing.slower


def test_noise_takes_more_rounds_and_then_says_so() -> None:
    taken = 0
    wild = np.random.default_rng(0)

    def sample() -> float:
        nonlocal taken
        taken += 1
        return float(np.exp(wild.normal(0, 2)))

    timing = compare(Three(sample, sample, sample))
    assert taken == 3 * MOST_ROUNDS > 3 * ROUNDS
    assert not timing.conclusive


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("trees")
    return lambda name: place(str(ROOT), folder / name)


@pytest.fixture(scope="module")
def base(trees: Callable[[str], Path]) -> Path:
    return trees("base")


def test_a_worker_imports_its_tree(base: Path) -> None:
    with workers(base) as (worker,):
        assert Path(worker.ask("where")).is_relative_to(base)
        with pytest.raises(WorkerError, match="AttributeError"):
            worker.ask("no_such_verb")


def test_a_kernel_that_is_much_slower_fails(
    base: Path, trees: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.timing.ROUNDS", 5)  # enough for this much
    monkeypatch.setattr("bench.gate.timing.MOST_ROUNDS", 5)
    report = Report()
    check.speed(base, slower(trees("slower"), 2.0), [GRADIENT], report)
    assert len(report.failures) == 1
    assert verdict(report) == 1


def test_a_loss_of_capacity_fails(base: Path, trees: Callable[[str], Path]) -> None:
    report = Report()
    check.capacity(base, forgetful(trees("forgetful")), report, dims=(32, 64), seeds=1)
    assert report.failures
    assert all("muon" in line for line in report.failures)


class Told:
    """A worker that answers what it is told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def ask(self, verb: str, **arguments: Any) -> Any:
        return self.answers[verb]


RIGHT = {"load": {"status": "ok", "note": ""}, "sample": 1.0}
ABSENT = {"load": {"status": "skipped", "note": "not there"}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Runs a comparison on workers that were told their answers."""

    def run(compare: Callable[[Path, Path, Report], None], *answers: dict[str, Any]) -> Report:
        @contextmanager
        def substituted(*trees: Path) -> Iterator[list[Told]]:
            yield [Told(**found) for found in answers]

        monkeypatch.setattr("bench.gate.check.workers", substituted)
        report = Report()
        compare(Path("base"), Path("head"), report)
        return report

    return run


def speed(base: Path, head: Path, report: Report) -> None:
    check.speed(base, head, ["a case"], report)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ({"load": {"status": "wrong result", "note": "off by 1"}}, "wrong result: off by 1"),
        ({"load": {"status": "failed", "note": "no memory"}}, "failed: no memory"),
        (ABSENT, "lost: not there"),
        ({**RIGHT, "sample": 1.3}, "1.300"),
    ],
)
def test_what_head_gets_wrong_or_lacks_fails(
    told: Callable[..., Report], head: dict[str, Any], says: str
) -> None:
    (line,) = told(speed, RIGHT, RIGHT, head).failures
    assert says in line


def test_what_measured_nothing_fails(told: Callable[..., Report]) -> None:
    report = told(speed, ABSENT, ABSENT, RIGHT)
    assert not report.failures
    assert verdict(report) == 2
    assert verdict(told(speed, RIGHT, RIGHT, RIGHT)) == 2  # no capacity


@pytest.mark.parametrize(
    ("head", "fails"),
    [(50.0, False), (49.8, False), (49.0, True), (51.0, False), (float("nan"), True)],
)
def test_lower_capacity_fails(told: Callable[..., Report], head: float, fails: bool) -> None:
    answers = [
        {"quantities": {"muon": {"recovered": recovered, "saturation_batch_size": 100.0}}}
        for recovered in (50.0, head)
    ]
    assert bool(told(check.capacity, *answers).failures) == fails


@pytest.mark.parametrize(
    ("before", "after", "fails"),
    [(0, 8, True), (8, 8, False), (8, 0, False), (None, 8, True), (None, 0, False)],
)
def test_more_spills_fail(
    told: Callable[..., Report],
    before: int | None,
    after: int,
    fails: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [
        {"compiled": {} if stack is None else {"kernel sm_90": {"stack": stack}}}
        for stack in (before, after)
    ]
    monkeypatch.setattr("bench.gate.check._sources", id)  # different on both sides
    assert bool(told(check.spills, *answers).failures) == fails


@pytest.mark.parametrize("compare", [check.capacity, check.spills])
def test_what_only_base_has_is_lost(
    told: Callable[..., Report], compare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.check._sources", id)
    known: dict[str, Any] = {"quantities": {}, "compiled": {}}
    unknown = {"quantities": None, "compiled": None}
    assert "lost" in told(compare, known, unknown).failures[0]
    assert not told(compare, unknown, known).failures


def test_the_same_kernels_need_no_compilation(base: Path) -> None:
    report = Report()
    check.spills(base, base, report)
    assert report.compared[check.SPILLS] == 1
    assert not report.failures


def test_an_unknown_revision_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'no-such-revision' is no revision"):
        place("no-such-revision", tmp_path / "tree")
