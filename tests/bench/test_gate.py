"""The gate finds what is planted in real trees, and reports what workers say."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import compiled
from bench.cases import QUICK
from bench.gate import check
from bench.gate.__main__ import gate, verdict
from bench.gate.check import CAPACITY, SPEED, Finding
from bench.gate.planted import plant
from bench.gate.timing import Timing
from bench.gate.worker import WorkerError, packages, workers
from bench.measure import Ratio
from bench.registry import lookup, matching
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


def only_the_odds(architectures: list[int]) -> compiled.Compiled:
    """In place of all that `compiled` tells: one kernel, in a worker."""
    package = "memsolve_kernels.compiled"
    variants, binaries, profile = (
        lookup(f"{package}:{name}") for name in ("variants", "binaries", "profile")
    )
    variant = next(each for each in variants(90) if each.name == "softmax.odds half d<=64")
    return {"odds": compiled.metrics(profile(binaries(variant, architectures)[0]))}


def test_more_cycles_by_count_fail(base: Path, trees: Callable[[str], Path]) -> None:
    pytest.importorskip("triton")
    planted = [plant(what, trees(what)) for what in ("masked", "unpacked")]
    with workers(base, *planted) as running:
        before, *after = (worker.ask(only_the_odds, [90]) for worker in running)
    for found in after:
        assert check.FAILED in [finding.outcome for finding in check.cycles(before, found)]
    assert [finding.outcome for finding in check.cycles(before, before)] == [check.PASSED]


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
RIGHT: dict[str, Any] = {"load": ("ok", ""), "sample": 1.0, "quantities": {}, "compiled": {}}
CHECKS: dict[str, Callable[..., Iterator[Finding]]] = {
    "speed": partial(check.speed, cases=["a case"]),
    "capacity": check.capacity,
    "spills": check.machine_code,
    "cycles": check.machine_code,
}
UNKNOWN = {"quantities": None, "compiled": None}


def loading(status: str, note: str = "") -> dict[str, Any]:
    return {"load": (status, note)}


def storing(recovered: float) -> dict[str, Any]:
    return {"quantities": {"muon": {"recovered": recovered, "saturation_batch_size": 100.0}}}


def spilling(stack: int) -> dict[str, Any]:
    return {"compiled": {"kernel sm_90": {"stack": stack}}}


def counted(overlap: float, serial: float, million: float = 1) -> dict[str, Any]:
    read = {"stack": 0, "overlap": overlap, "serial": serial, "products": million * 2**20}
    return {"compiled": {"kernel sm_90": read}}


def dead(tree: str) -> dict[str, Any]:
    return dict.fromkeys(RIGHT, WorkerError(Path(tree), "it died"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Compares workers that were told their answers."""

    def run(kind: str, *answers: dict[str, Any]) -> list[Finding]:
        @contextmanager
        def substituted(*trees: Path) -> Iterator[list[Told]]:
            yield [Told(**found) for found in answers]

        monkeypatch.setattr("bench.gate.check.workers", substituted)
        monkeypatch.setattr("bench.gate.check._sources", id)  # different on both sides
        compare = CHECKS[kind]
        return list(compare(Path("base"), Path("head")))

    return run


@pytest.mark.parametrize(
    ("kind", "answers", "outcome", "says"),
    [
        ("speed", [RIGHT, RIGHT, RIGHT], "ok", "a case: 1.000 [1.000 1.000], noise 1.000"),
        ("speed", [RIGHT, RIGHT, RIGHT | {"sample": 1.3}], "FAIL", "1.300"),
        ("speed", [RIGHT, RIGHT, loading("wrong result", "off by 1")], "FAIL", "off by 1"),
        ("speed", [RIGHT, RIGHT, loading("failed", "no memory")], "FAIL", "failed: no memory"),
        ("speed", [RIGHT, RIGHT, loading("skipped", "not there")], "FAIL", "lost: not there"),
        ("speed", [RIGHT, RIGHT, dead("head")], "FAIL", "a case: head fails: it died"),
        ("speed", [dead("base"), RIGHT, RIGHT], "-", "a case: base fails: it died"),
        ("speed", [dead("base"), RIGHT, loading("failed", "why")], "FAIL", "a case: failed: why"),
        ("speed", [loading("wrong result", "why"), RIGHT, RIGHT], "-", "base: wrong result: why"),
        ("speed", [loading("failed", "why"), RIGHT, RIGHT], "-", "a case: base: failed: why"),
        ("speed", [loading("skipped", "why"), RIGHT, RIGHT], "-", "a case: base: skipped: why"),
        ("capacity", [storing(50), storing(50)], "ok", "muon recovered: 50 -> 50"),
        ("capacity", [storing(50), storing(51)], "ok", "50 -> 51"),
        ("capacity", [storing(50), storing(49.8)], "ok", "50 -> 49.8"),
        ("capacity", [storing(50), storing(49)], "FAIL", "50 -> 49"),
        ("capacity", [storing(50), storing(math.nan)], "FAIL", "50 -> nan"),
        ("capacity", [storing(math.nan), storing(50)], "-", "nan -> 50"),
        ("capacity", [storing(50), RIGHT], "FAIL", "muon: lost"),
        ("capacity", [RIGHT, UNKNOWN], "FAIL", "lost"),
        ("capacity", [UNKNOWN, RIGHT], "-", "not at base"),
        ("capacity", [RIGHT, dead("head")], "FAIL", "head fails: it died"),
        ("capacity", [dead("base"), RIGHT], "-", "base fails: it died"),
        ("spills", [spilling(0), spilling(8)], "FAIL", "kernel sm_90: 0 -> 8 bytes"),
        ("spills", [spilling(8), spilling(8)], "ok", "1 variants in both"),
        ("spills", [spilling(8), spilling(0)], "ok", "1 variants in both"),
        ("spills", [RIGHT, spilling(8)], "FAIL", "kernel sm_90: new, with 8 bytes"),
        ("spills", [RIGHT, spilling(0)], "-", "0 variants in both"),
        ("spills", [RIGHT, UNKNOWN], "FAIL", "lost"),
        ("spills", [UNKNOWN, RIGHT], "-", "not at base"),
        ("spills", [RIGHT, dead("head")], "FAIL", "head fails: it died"),
        ("spills", [dead("base"), RIGHT], "-", "base fails: it died"),
        ("cycles", [counted(100, 200), counted(100, 230)], "FAIL", "serial 200 -> 230"),
        ("cycles", [counted(100, 200), counted(115, 215)], "FAIL", "overlap"),
        ("cycles", [counted(100, 200), counted(109, 219)], "ok", "1 variants in both"),
        ("cycles", [counted(100, 200), counted(40, 80, 0.4)], "ok", "1 variants in both"),
        ("cycles", [counted(100, 200), counted(50, 80, 0.4)], "FAIL", "overlap"),
        ("cycles", [counted(100, 200, 0), counted(200, 400, 0)], "-", "0 variants in both"),
        ("cycles", [spilling(0), counted(100, 200)], "-", "0 variants in both"),
    ],
)
def test_a_finding_is_what_the_workers_say(
    said: Callable[..., list[Finding]],
    kind: str,
    answers: list[dict[str, Any]],
    outcome: str,
    says: str,
) -> None:
    found = said(kind, *answers)
    first = next(finding for finding in found if finding.kind == kind)
    assert first.outcome == outcome
    assert says in first.text
    assert "FAIL" not in [finding.outcome for finding in found if finding is not first]


@pytest.mark.parametrize(
    ("second", "outcome", "says"),
    [
        (SLOWER, "FAIL", "once more: 1.300"),
        (SAME, "ok", "once more: 1.000"),
        (NOISY, "-", "too noisy to tell"),
        (None, "FAIL", "wrong result: off by 1"),
    ],
)
def test_a_second_look_decides(
    said: Callable[..., list[Finding]],
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
    (finding,) = said("speed", RIGHT, RIGHT, head)
    assert finding.outcome == outcome
    assert says in finding.text


def test_what_measured_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    timed, stored = Finding(SPEED, "ok", "a"), Finding(CAPACITY, "ok", "b")
    assert verdict([timed, stored]) == 0
    assert verdict([timed, Finding(CAPACITY, "-", "b")]) == 2
    assert verdict([stored]) == 2
    assert verdict([timed, stored, Finding(SPEED, "FAIL", "c")]) == 1
    assert "FAIL speed: c\n" in capsys.readouterr().out


def test_the_same_kernels_need_no_compilation(base: Path) -> None:
    (finding,) = check.machine_code(base, base)
    assert finding.outcome == check.PASSED


@pytest.mark.parametrize("changes", ["", " M kernels/memsolve_kernels/dispatch.py"])
def test_what_is_not_committed_is_told(
    changes: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.gate.__main__.git", lambda *arguments: changes)
    for name in ("place", "speed", "capacity", "machine_code"):
        monkeypatch.setattr(f"bench.gate.__main__.{name}", lambda *arguments: ())
    list(gate("base", "HEAD", "cpu"))
    assert ("not committed" in capsys.readouterr().err) == bool(changes)
    list(gate("base", "a-revision", "cpu"))
    assert not capsys.readouterr().err
