"""The gate's decisions: on simulated samples, and on what substituted workers return."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import gate
from bench.gate import CAPACITY, MOST_ROUNDS, ROUNDS, SPEED, Comparison, Finding, compare
from bench.gate import __main__ as command
from bench.gate.worker import WorkerError
from bench.sampling import Ratio


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

    def compare(self, again: float, head: float) -> Comparison:
        """Processes that take so much longer than base."""
        return compare_samplers(*map(self.process, (1.0, again, head)))


def compare_samplers(*samplers: Callable[[], float]) -> Comparison:
    return compare(dict(zip(("base", "again", "head"), samplers, strict=True)))


def test_a_commit_against_itself_passes() -> None:
    assert not any(Machine(seed).compare(1.0, 1.0).is_slower for seed in range(100))


def test_a_slowdown_of_30_percent_is_detected() -> None:
    for seed in range(100):
        comparison = Machine(seed).compare(1.0, 1.3)
        assert comparison.is_slower
        assert comparison.error < gate.LARGEST_ERROR


@pytest.mark.parametrize("factor", [0.7, 1.03])
def test_a_speedup_and_a_slowdown_of_3_percent_pass(factor: float) -> None:
    assert not Machine(0, noise=0.02).compare(1.0, factor).is_slower


def test_processes_that_differ_by_chance_raise_the_threshold() -> None:
    """Where base differs from itself by 20%, head may too."""
    comparison = Machine(0, noise=0.01).compare(1.2, 1.2)
    assert comparison.noise > 1.15
    assert not comparison.is_slower


def test_noise_takes_more_rounds_and_is_then_reported() -> None:
    count = 0
    generator = np.random.default_rng(0)

    def sample() -> float:
        nonlocal count
        count += 1
        return float(np.exp(generator.normal(0, 2)))

    comparison = compare_samplers(sample, sample, sample)
    assert count == 3 * MOST_ROUNDS > 3 * ROUNDS
    assert comparison.error >= gate.LARGEST_ERROR


class FakeWorker:
    """A worker with fixed results."""

    def __init__(self, **results: Any) -> None:
        self.results = results

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        result = self.results[function.__name__]
        if isinstance(result, Exception):
            raise result
        return result


SLOWER, SAME, NOISY = (
    Comparison(Ratio(1.3, 1.2, 1.4), 1.05),
    Comparison(Ratio(1.0, 0.95, 1.05), 1.05),
    Comparison(Ratio(1.2, 0.8, 1.8), 1.5),
)
STORAGE, CODE = "storage_metrics", "compiled_metrics"
OK: dict[str, Any] = {"load": ("ok", ""), "sample": 1.0, STORAGE: {}, CODE: {}}
COMPARE: dict[str, Callable[..., Iterator[Finding]]] = {
    "speed": partial(gate.compare_speed, cases=["a case"]),
    "capacity": gate.compare_capacity,
    "spills": gate.compare_machine_code,
    "cycles": gate.compare_machine_code,
}
LACKING = {STORAGE: None, CODE: None}


def loading(status: str, note: str = "") -> dict[str, Any]:
    return {"load": (status, note)}


def storing(recovered: float) -> dict[str, Any]:
    return {STORAGE: {"muon": {"recovered": recovered, "saturation_batch_size": 100.0}}}


def spilling(stack: int) -> dict[str, Any]:
    return {CODE: {"kernel sm_90": {"stack": stack}}}


def counting(overlap: float, serial: float, million: float = 1) -> dict[str, Any]:
    metrics = {"stack": 0, "overlap": overlap, "serial": serial, "products": million * 2**20}
    return {CODE: {"kernel sm_90": metrics}}


def dying(tree: str) -> dict[str, Any]:
    return dict.fromkeys(OK, WorkerError(Path(tree), "it died"))


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Compares workers with fixed results."""

    def run(kind: str, *results: dict[str, Any]) -> list[Finding]:
        @contextmanager
        def workers(*trees: Path) -> Iterator[list[FakeWorker]]:
            yield [FakeWorker(**each) for each in results]

        monkeypatch.setattr(gate, "workers", workers)
        monkeypatch.setattr(gate, "_sources", id)  # different on both sides
        return list(COMPARE[kind](Path("base"), Path("head")))

    return run


@pytest.mark.parametrize(
    ("kind", "results", "outcome", "text"),
    [
        ("speed", [OK, OK, OK], "ok", "a case: 1.000 [1.000 1.000], noise 1.000"),
        ("speed", [OK, OK, OK | {"sample": 1.3}], "FAIL", "1.300"),
        ("speed", [OK, OK, loading("wrong result", "off by 1")], "FAIL", "off by 1"),
        ("speed", [OK, OK, loading("failed", "no memory")], "FAIL", "failed: no memory"),
        ("speed", [OK, OK, loading("skipped", "not there")], "FAIL", "lost: not there"),
        ("speed", [OK, OK, dying("head")], "FAIL", "a case: head fails: it died"),
        ("speed", [dying("base"), OK, OK], "-", "a case: base fails: it died"),
        ("speed", [dying("base"), OK, loading("failed", "why")], "FAIL", "a case: failed: why"),
        ("speed", [loading("wrong result", "why"), OK, OK], "-", "base: wrong result: why"),
        ("speed", [loading("failed", "why"), OK, OK], "-", "a case: base: failed: why"),
        ("speed", [loading("skipped", "why"), OK, OK], "-", "a case: base: skipped: why"),
        ("capacity", [storing(50), storing(50)], "ok", "muon recovered: 50 -> 50"),
        ("capacity", [storing(50), storing(51)], "ok", "50 -> 51"),
        ("capacity", [storing(50), storing(49.8)], "ok", "50 -> 49.8"),
        ("capacity", [storing(50), storing(49)], "FAIL", "50 -> 49"),
        ("capacity", [storing(50), storing(math.nan)], "FAIL", "50 -> nan"),
        ("capacity", [storing(math.nan), storing(50)], "-", "nan -> 50"),
        ("capacity", [storing(50), OK], "FAIL", "muon: lost"),
        ("capacity", [OK, LACKING], "FAIL", "lost"),
        ("capacity", [LACKING, OK], "-", "not at base"),
        ("capacity", [OK, dying("head")], "FAIL", "head fails: it died"),
        ("capacity", [dying("base"), OK], "-", "base fails: it died"),
        ("spills", [spilling(0), spilling(8)], "FAIL", "kernel sm_90: 0 -> 8 bytes"),
        ("spills", [spilling(8), spilling(8)], "ok", "1 variants in both"),
        ("spills", [spilling(8), spilling(0)], "ok", "1 variants in both"),
        ("spills", [OK, spilling(8)], "FAIL", "kernel sm_90: new, with 8 bytes"),
        ("spills", [OK, spilling(0)], "-", "0 variants in both"),
        ("spills", [OK, LACKING], "FAIL", "lost"),
        ("spills", [LACKING, OK], "-", "not at base"),
        ("spills", [OK, dying("head")], "FAIL", "head fails: it died"),
        ("spills", [dying("base"), OK], "-", "base fails: it died"),
        ("cycles", [counting(100, 200), counting(100, 230)], "FAIL", "serial 200 -> 230"),
        ("cycles", [counting(100, 200), counting(115, 215)], "FAIL", "overlap"),
        ("cycles", [counting(100, 200), counting(109, 219)], "ok", "1 variants in both"),
        ("cycles", [counting(100, 200), counting(40, 80, 0.4)], "ok", "1 variants in both"),
        ("cycles", [counting(100, 200), counting(50, 80, 0.4)], "FAIL", "overlap"),
        ("cycles", [counting(100, 200, 0), counting(200, 400, 0)], "-", "0 variants in both"),
        ("cycles", [spilling(0), counting(100, 200)], "-", "0 variants in both"),
    ],
)
def test_a_finding_states_the_results_of_the_workers(
    findings: Callable[..., list[Finding]],
    kind: str,
    results: list[dict[str, Any]],
    outcome: str,
    text: str,
) -> None:
    entries = findings(kind, *results)
    first = next(finding for finding in entries if finding.kind == kind)
    assert first.outcome == outcome
    assert text in first.text
    assert "FAIL" not in [finding.outcome for finding in entries if finding is not first]


@pytest.mark.parametrize(
    ("second", "outcome", "text"),
    [
        (SLOWER, "FAIL", "once more: 1.300"),
        (SAME, "ok", "once more: 1.000"),
        (NOISY, "-", "too noisy to tell"),
        (None, "FAIL", "wrong result: off by 1"),
    ],
)
def test_the_second_comparison_decides(
    findings: Callable[..., list[Finding]],
    second: Comparison | None,
    outcome: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comparisons = iter([SLOWER, second])
    head = {**OK}

    def compare(samplers: dict[str, Callable[[], float]]) -> Comparison | None:
        if second is None:
            head["load"] = "wrong result", "off by 1"
        return next(comparisons)

    monkeypatch.setattr(gate, "compare", compare)
    (finding,) = findings("speed", OK, OK, head)
    assert finding.outcome == outcome
    assert text in finding.text


def test_a_gate_that_measured_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    speed, capacity = Finding(SPEED, "ok", "a"), Finding(CAPACITY, "ok", "b")
    assert command.report([speed, capacity]) == 0
    assert command.report([speed, Finding(CAPACITY, "-", "b")]) == 2
    assert command.report([capacity]) == 2
    assert command.report([speed, capacity, Finding(SPEED, "FAIL", "c")]) == 1
    assert "FAIL speed: c\n" in capsys.readouterr().out


@pytest.mark.parametrize("changes", ["", " M kernels/memsolve_kernels/dispatch.py"])
def test_uncommitted_changes_are_reported(
    changes: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "git", lambda *arguments: changes)
    monkeypatch.setattr(command, "extract", lambda *arguments: ())
    for name in ("compare_speed", "compare_capacity", "compare_machine_code"):
        monkeypatch.setattr(gate, name, lambda *arguments: ())
    list(command.compare_trees("base", "HEAD", "cpu"))
    assert ("uncommitted" in capsys.readouterr().err) == bool(changes)
    list(command.compare_trees("base", "a-revision", "cpu"))
    assert not capsys.readouterr().err
