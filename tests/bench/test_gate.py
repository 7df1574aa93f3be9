"""The gate finds what is planted in real trees, and reports what workers say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.cases import QUICK
from bench.gate import check
from bench.gate.__main__ import gate, main, verdict
from bench.gate.planted import forgetful, slower
from bench.gate.report import Report
from bench.gate.timing import Three, Timing
from bench.gate.tree import ROOT, TreeError, WorkerError, place, workers
from bench.registry import matching

GRADIENT, RETRIEVAL = (
    next(case.name for case in matching(QUICK, f"^{function} ", "cpu"))
    for function in ("softmax_gradient", "retrieval")
)


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
    """On a busy machine at the second or third look: each needs all of its rounds to agree."""
    slow = slower(trees("slower"), 0.2)
    for _ in range(3):
        report = Report()
        check.speed(base, slow, [GRADIENT], report)
        if report.failures:
            break
    if "too noisy" in report.lines[0]:
        pytest.skip("this machine is too busy to tell 30% from chance")
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
