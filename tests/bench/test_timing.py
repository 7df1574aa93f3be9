"""A case becomes timings: no number where a result is wrong, and ratios where all is right."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import memsolve_kernels
import pytest
import torch

from bench import __main__, record
from bench.measure import Ceilings
from bench.registry import OURS, Case, Implementation, Run
from bench.sampling import LEAST_ROUNDS
from bench.timing import Timing, add_ratios, measure
from tests.bench.test_cases import GRADIENT, SMALL, only

CEILINGS = Ceilings(1e9, 1e9)


def timings(case: Case) -> dict[str, Timing]:
    return {timing.implementation: timing for timing in measure(case, 0.01, CEILINGS)}


def broken(*arguments: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    loss, gradient = BEFORE(*arguments, **options)
    return loss, gradient * 1.001


BEFORE = memsolve_kernels.softmax_gradient


def failing(*arguments: Any, **options: Any) -> None:
    raise RuntimeError("an illegal instruction\nand more")


@pytest.mark.parametrize(
    ("function", "status", "note"),
    [(broken, "wrong result", "relative error 1.0e-03"), (failing, "failed", "an illegal")],
)
def test_a_broken_kernel_has_no_number(
    function: Callable[..., Any], status: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memsolve_kernels, "softmax_gradient", function)
    results = timings(only(GRADIENT, "ours", "sdpa K=V"))
    ours = results["ours"]
    assert ours.status == status
    assert note in ours.note
    assert not ours.hot
    assert ours.flops is None
    assert results["sdpa K=V"].hot
    assert results["sdpa K=V"].ratio is None
    line = __main__.table_lines([ours])[1]
    assert status in line
    assert note in line
    assert "~" not in line


def changing(after: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Implementation:
    """Attention whose result changes after so many calls."""
    attention = only(GRADIENT, "sdpa K=V").ours

    def prepare(inputs: Any) -> Run:
        run = attention.prepare(inputs)
        calls: list[None] = []

        def changed() -> torch.Tensor:
            calls.append(None)
            result = run()
            assert isinstance(result, torch.Tensor)
            return result if len(calls) <= after else change(result)

        return changed

    return Implementation("changing", prepare)


def out_of_memory(result: torch.Tensor) -> torch.Tensor:
    raise MemoryError("no more of it")


@pytest.mark.parametrize(
    ("change", "status", "note"),
    [
        (torch.zeros_like, "wrong result", "relative error 1.0e+00, tolerance 1e-04, after it was"),
        (out_of_memory, "failed", "MemoryError: no more of it"),
    ],
)
def test_an_implementation_that_is_right_at_first_only_has_no_number(
    change: Callable[[torch.Tensor], torch.Tensor], status: str, note: str
) -> None:
    ours, attention = only(GRADIENT, "ours", "sdpa K=V").function.implementations
    implementations = ours, changing(3, change), attention
    function = replace(GRADIENT.function, implementations=implementations)
    results = timings(replace(GRADIENT, function=function))
    assert results["changing"].status == status
    assert note in results["changing"].note
    assert not results["changing"].hot
    assert results["changing"].ratio is None
    assert results["ours"].hot
    assert results["sdpa K=V"].ratio is not None


def test_a_case_without_inputs_is_a_failure_of_every_implementation() -> None:
    def absent(*arguments: Any) -> Any:
        raise MemoryError("too large\nby far")

    case = replace(GRADIENT, function=replace(GRADIENT.function, make_inputs=absent))
    results = timings(case)
    assert list(results) == [each.name for each in case.function.implementations]
    assert {timing.status for timing in results.values()} == {"failed"}
    assert {timing.note for timing in results.values()} == {"MemoryError: too large"}


def test_a_function_that_the_commit_lacks_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(memsolve_kernels, "softmax_gradient")
    ours = timings(only(GRADIENT, "ours"))["ours"]
    assert ours.status == "skipped"
    assert "softmax_gradient" in ours.note


def test_an_interrupted_run_keeps_the_cases_that_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(case: Case, seconds: float, ceilings: Ceilings) -> list[Timing]:
        if case is not GRADIENT:
            raise KeyboardInterrupt
        return [Timing(case.name, "ours", "ok", hot=[1.0], extra_bytes=0)]

    out = tmp_path / "record.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--device", "cpu", "--out", str(out)])
    monkeypatch.setattr(__main__, "CASES", list(SMALL.values()))
    monkeypatch.setattr(__main__, "measure_ceilings", lambda *arguments: CEILINGS)
    monkeypatch.setattr(__main__, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        __main__.main()
    assert [timing.case for timing in record.load(out)["timings"]] == [GRADIENT.name]


def test_a_timing_has_samples_and_shares() -> None:
    results = timings(only(GRADIENT, "ours", "sdpa K=V", "two GEMMs"))
    ours, peer = results["ours"], results["sdpa K=V"]
    flops = GRADIENT.function.flops(GRADIENT.make_inputs())
    moved = GRADIENT.function.bytes(GRADIENT.size, 4)
    assert len(ours.hot) >= LEAST_ROUNDS
    assert ours.launch is None  # a CPU has no queue
    assert ours.flops == pytest.approx(flops / ours.median)
    assert ours.of_gemm == pytest.approx(flops / ours.median / 1e9)
    assert ours.bytes == pytest.approx(moved / ours.median)
    assert ours.of_copy == pytest.approx(moved / ours.median / 1e9)
    assert peer.ratio is not None
    assert peer.ratio.low <= peer.ratio.value <= peer.ratio.high
    assert results["two GEMMs"].status == "bound"
    assert results["two GEMMs"].error is None


def test_a_ratio_is_calibrated_by_as_many_rounds() -> None:
    again = [1.0] * 6 + [1.0, 1.5] * 10
    short, long = (Timing("case", "theirs", "ok", hot=[1.1] * count) for count in (6, 26))
    ours = Timing("case", OURS, "ok", hot=[1.0] * 26)
    add_ratios([ours, short, long], again)
    assert ours.ratio == (1.0, 1.0, 1.5)
    assert (short.differs, long.differs) == (True, False)
