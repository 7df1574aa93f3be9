"""The gate finds what is planted and lets the rest pass: on told samples, and on real trees."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cases import QUICK
from bench.gate import check
from bench.gate.__main__ import gate, main, verdict
from bench.gate.planted import forgetful, slower
from bench.gate.report import Report
from bench.gate.timing import MOST_ROUNDS, ROUNDS, Three, Timing, compare
from bench.gate.tree import ROOT, TreeError, WorkerError, place, workers
from bench.registry import matching

GRADIENT, RETRIEVAL = (
    next(case.name for case in matching(QUICK, f"^{function} ", "cpu"))
    for function in ("softmax_gradient", "retrieval")
)


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


def test_neighbours_change_from_round_to_round() -> None:
    order: list[int] = []

    def sampler(index: int) -> Callable[[], float]:
        return lambda: order.append(index) or 1.0  # type: ignore[func-returns-value]

    compare(Three(*map(sampler, range(3))))
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert all(sorted(found) == [0, 1, 2] for found in rounds)
    assert len(set(rounds)) == 6  # a rotation has three


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
        files = worker.ask("where")
        assert {Path(file).relative_to(base).parent for file in files.values()} == {
            Path("memsolve"),
            Path("kernels/memsolve_kernels"),
        }
        with pytest.raises(WorkerError, match="AttributeError"):
            worker.ask("no_such_verb")


def test_a_worker_that_would_measure_other_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="memsolve is imported from"), workers(tmp_path):
        pass


def test_a_kernel_that_is_30_percent_slower_fails(base: Path, trees: Callable[[str], Path]) -> None:
    report = Report()
    check.speed(base, slower(trees("slower"), 0.2), [GRADIENT], report)
    assert len(report.failures) == 1
    assert verdict(report) == 1


ABORTING = """
def softmax_gradient(*arguments, **options):
    import os
    os.abort()
"""


def test_a_kernel_that_kills_its_process_fails_and_ends_no_comparison(
    base: Path, trees: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.check.compare", lambda three: Timing(1.0, 1.0, 1.0, 1.0))
    broken = trees("aborting")
    package = broken / "kernels" / "memsolve_kernels" / "__init__.py"
    package.write_text(package.read_text() + ABORTING)
    report = Report()
    check.speed(base, broken, [GRADIENT, RETRIEVAL], report)
    assert [line[:4] for line in report.lines] == ["FAIL", "ok  "]
    assert "head fails: the process died" in report.lines[0]


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
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer


SLOWER, SAME, NOISY = (
    Timing(1.3, 1.2, 1.4, 1.05),
    Timing(1.0, 0.95, 1.05, 1.05),
    Timing(1.2, 0.8, 1.8, 1.5),
)
RIGHT: dict[str, Any] = {"load": {"status": "ok", "note": ""}, "sample": 1.0}
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


@pytest.mark.parametrize(
    ("second", "begins", "says"),
    [
        (SLOWER, "FAIL", "once more: 1.300"),
        (SAME, "ok  ", "once more: 1.000"),
        (NOISY, "-   ", "too noisy to tell"),
        (None, "FAIL", "wrong result: off by 1"),
    ],
)
def test_a_second_look_decides(
    told: Callable[..., Report],
    second: Timing | None,
    begins: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timings = iter([SLOWER, second])
    head = {**RIGHT}

    def compare(three: Three) -> Timing | None:
        if second is None:
            head["load"] = {"status": "wrong result", "note": "off by 1"}
        return next(timings)

    monkeypatch.setattr("bench.gate.check.compare", compare)
    (line,) = told(speed, RIGHT, RIGHT, head).lines
    assert line.startswith(begins)
    assert says in line


@pytest.mark.parametrize("status", ["wrong result", "failed", "skipped"])
def test_what_base_gets_wrong_or_lacks_is_not_compared(
    told: Callable[..., Report], status: str
) -> None:
    report = told(speed, {"load": {"status": status, "note": "a reason"}}, RIGHT, RIGHT)
    assert report.lines == [f"-    speed: a case: base: {status}: a reason"]
    assert report.missing((check.SPEED,))


@pytest.mark.parametrize("compare", [speed, check.capacity, check.spills])
def test_a_base_that_dies_is_not_compared_and_a_head_that_dies_fails(
    told: Callable[..., Report], compare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.check._sources", id)
    right = {**RIGHT, "quantities": {}, "compiled": {}}

    def dead(tree: str) -> dict[str, Any]:
        return dict.fromkeys(right, WorkerError(Path(tree), "it died"))

    again = [right] if compare is speed else []
    (line,) = told(compare, dead("base"), *again, right).lines
    assert line.startswith("- ")
    assert line.endswith("base fails: it died")
    (line,) = told(compare, right, *again, dead("head")).failures
    assert line.endswith("head fails: it died")


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


@pytest.mark.parametrize("base", ["no-such-revision", "."])
def test_what_holds_no_packages_is_an_error_of_one_line(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bench.gate", base])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"error: '{base}' " in capsys.readouterr().err


@pytest.mark.parametrize("changes", ["", " M kernels/memsolve_kernels/dispatch.py"])
def test_what_is_not_committed_is_told(
    changes: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.__main__.git", lambda *arguments: changes)
    for name in ("place", "speed", "capacity", "spills"):
        monkeypatch.setattr(f"bench.gate.__main__.{name}", lambda *arguments: None)
    gate("base", "HEAD", "cpu")
    assert ("not committed" in capsys.readouterr().err) == bool(changes)
    gate("base", "a-revision", "cpu")
    assert not capsys.readouterr().err
