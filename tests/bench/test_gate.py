"""The gate finds what is planted in real trees, and reports what workers say."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.cases import QUICK
from bench.gate import check
from bench.gate.__main__ import gate, main, verdict
from bench.gate.check import Finding
from bench.gate.planted import plant
from bench.gate.timing import Timing
from bench.gate.worker import WorkerError, packages, workers
from bench.measure import Ratio
from bench.registry import matching
from bench.repository import ROOT, TreeError, place

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
        files = worker.ask(packages)
        assert {Path(file).relative_to(base.resolve()).parent for file in files.values()} == {
            Path("memsolve"),
            Path("kernels/memsolve_kernels"),
        }
        with pytest.raises(WorkerError, match="ValueError"):
            worker.ask(int, "no number")
        with pytest.raises(WorkerError, match="the process died, asked for abort"):
            worker.ask(os.abort)


def test_a_worker_that_would_measure_other_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="memsolve is imported from"), workers(tmp_path):
        pass


def test_a_kernel_that_is_30_percent_slower_fails(base: Path, trees: Callable[[str], Path]) -> None:
    """On a busy machine at the second or third look: each needs all of its rounds to agree."""
    slow = plant("slower", trees("slower"))
    for _ in range(3):
        (finding,) = check.speed(base, slow, [GRADIENT])
        if finding.outcome == check.FAILED:
            break
    if "too noisy" in finding.text:
        pytest.skip("this machine is too busy to tell 30% from chance")
    assert verdict([finding]) == 1


ABORTING = """
def softmax_gradient(*arguments, **options):
    import os
    os.abort()
"""


def test_a_kernel_that_kills_its_process_fails_and_ends_no_comparison(
    base: Path, trees: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.check.compare", lambda samplers: SAME)
    broken = trees("aborting")
    package = broken / "kernels" / "memsolve_kernels" / "__init__.py"
    package.write_text(package.read_text() + ABORTING)
    died, fine = check.speed(base, broken, [GRADIENT, RETRIEVAL])
    assert (died.outcome, fine.outcome) == (check.FAILED, check.PASSED)
    assert "head fails: the process died" in died.text


def test_a_loss_of_capacity_fails(base: Path, trees: Callable[[str], Path]) -> None:
    forgetful = plant("forgetful", trees("forgetful"))
    found = check.capacity(base, forgetful, dims=(32, 64), seeds=1)
    failures = [finding.text for finding in found if finding.outcome == check.FAILED]
    assert failures
    assert all("muon" in text for text in failures)


class Told:
    """A worker that answers what it is told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        answer = self.answers[question.__name__]
        if isinstance(answer, Exception):
            raise answer
        return answer


SLOWER, SAME, NOISY = (
    Timing(Ratio(1.3, 1.2, 1.4), 1.05),
    Timing(Ratio(1.0, 0.95, 1.05), 1.05),
    Timing(Ratio(1.2, 0.8, 1.8), 1.5),
)
RIGHT: dict[str, Any] = {"load": ("ok", ""), "sample": 1.0}
ABSENT = {"load": ("skipped", "not there")}

Comparison = Callable[[Path, Path], Iterator[Finding]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Runs a comparison on workers that were told their answers."""

    def run(compare: Comparison, *answers: dict[str, Any]) -> list[Finding]:
        @contextmanager
        def substituted(*trees: Path) -> Iterator[list[Told]]:
            yield [Told(**found) for found in answers]

        monkeypatch.setattr("bench.gate.check.workers", substituted)
        monkeypatch.setattr("bench.gate.check._sources", id)  # different on both sides
        return list(compare(Path("base"), Path("head")))

    return run


speed = partial(check.speed, cases=["a case"])


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ({"load": ("wrong result", "off by 1")}, "wrong result: off by 1"),
        ({"load": ("failed", "no memory")}, "failed: no memory"),
        (ABSENT, "lost: not there"),
        ({**RIGHT, "sample": 1.3}, "1.300"),
    ],
)
def test_what_head_gets_wrong_or_lacks_fails(
    told: Callable[..., list[Finding]], head: dict[str, Any], says: str
) -> None:
    (finding,) = told(speed, RIGHT, RIGHT, head)
    assert finding.outcome == check.FAILED
    assert says in finding.text


@pytest.mark.parametrize(
    ("second", "outcome", "says"),
    [
        (SLOWER, check.FAILED, "once more: 1.300"),
        (SAME, check.PASSED, "once more: 1.000"),
        (NOISY, check.ABSENT, "too noisy to tell"),
        (None, check.FAILED, "wrong result: off by 1"),
    ],
)
def test_a_second_look_decides(
    told: Callable[..., list[Finding]],
    second: Timing | None,
    outcome: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timings = iter([SLOWER, second])
    head = {**RIGHT}

    def compare(samplers: dict[str, Callable[[], float]]) -> Timing | None:
        if second is None:
            head["load"] = "wrong result", "off by 1"
        return next(timings)

    monkeypatch.setattr("bench.gate.check.compare", compare)
    (finding,) = told(speed, RIGHT, RIGHT, head)
    assert finding.outcome == outcome
    assert says in finding.text


@pytest.mark.parametrize("status", ["wrong result", "failed", "skipped"])
def test_what_base_gets_wrong_or_lacks_is_not_compared(
    told: Callable[..., list[Finding]], status: str
) -> None:
    (finding,) = told(speed, {"load": (status, "a reason")}, RIGHT, RIGHT)
    assert str(finding) == f"-    speed: a case: base: {status}: a reason"
    assert verdict([finding]) == 2


@pytest.mark.parametrize("compare", [speed, check.capacity, check.spills])
def test_a_base_that_dies_is_not_compared_and_a_head_that_dies_fails(
    told: Callable[..., list[Finding]], compare: Comparison
) -> None:
    right = {**RIGHT, "quantities": {}, "compiled": {}}

    def dead(tree: str) -> dict[str, Any]:
        return dict.fromkeys(right, WorkerError(Path(tree), "it died"))

    again = [right] if compare is speed else []
    (lost,) = told(compare, dead("base"), *again, right)
    assert lost.outcome == check.ABSENT
    assert lost.text.endswith("base fails: it died")
    (failed,) = told(compare, right, *again, dead("head"))
    assert failed.outcome == check.FAILED
    assert failed.text.endswith("head fails: it died")


def test_what_measured_nothing_fails(told: Callable[..., list[Finding]]) -> None:
    assert verdict(told(speed, ABSENT, ABSENT, RIGHT)) == 2
    timed = told(speed, RIGHT, RIGHT, RIGHT)
    assert verdict(timed) == 2  # no capacity
    assert verdict([*timed, Finding(check.CAPACITY, check.PASSED, "")]) == 0


@pytest.mark.parametrize(
    ("head", "fails"),
    [(50.0, False), (49.8, False), (49.0, True), (51.0, False), (float("nan"), True)],
)
def test_lower_capacity_fails(told: Callable[..., list[Finding]], head: float, fails: bool) -> None:
    answers = [
        {"quantities": {"muon": {"recovered": recovered, "saturation_batch_size": 100.0}}}
        for recovered in (50.0, head)
    ]
    outcomes = [finding.outcome for finding in told(check.capacity, *answers)]
    assert outcomes == [check.FAILED if fails else check.PASSED, check.PASSED]


@pytest.mark.parametrize(
    ("before", "after", "fails"),
    [(0, 8, True), (8, 8, False), (8, 0, False), (None, 8, True), (None, 0, False)],
)
def test_more_spills_fail(
    told: Callable[..., list[Finding]], before: int | None, after: int, fails: bool
) -> None:
    answers = [
        {"compiled": {} if stack is None else {"kernel sm_90": {"stack": stack}}}
        for stack in (before, after)
    ]
    outcomes = [finding.outcome for finding in told(check.spills, *answers)]
    assert (check.FAILED in outcomes) == fails


@pytest.mark.parametrize("compare", [check.capacity, check.spills])
def test_what_only_base_has_is_lost(
    told: Callable[..., list[Finding]], compare: Comparison
) -> None:
    known: dict[str, Any] = {"quantities": {}, "compiled": {}}
    unknown = dict.fromkeys(known)
    (lost,) = told(compare, known, unknown)
    assert (lost.outcome, "lost" in lost.text) == (check.FAILED, True)
    assert told(compare, unknown, known)[0].outcome == check.ABSENT


def test_the_same_kernels_need_no_compilation(base: Path) -> None:
    (finding,) = check.spills(base, base)
    assert finding.outcome == check.PASSED


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
        monkeypatch.setattr(f"bench.gate.__main__.{name}", lambda *arguments: ())
    list(gate("base", "HEAD", "cpu"))
    assert ("not committed" in capsys.readouterr().err) == bool(changes)
    list(gate("base", "a-revision", "cpu"))
    assert not capsys.readouterr().err
