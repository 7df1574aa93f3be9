"""How the Triton kernels are launched: splits, and tuning where it is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memsolve_kernels.softmax.presets import Preset
from memsolve_kernels.softmax.splits import FEW, FULL_ENOUGH, count_splits

PRESET = Preset(block_b=64, block_n=32, block_d=64, num_warps=4, num_stages=2)


def test_one_split_if_queries_fill_the_processors() -> None:
    assert count_splits(blocks=132, tiles=1000, processors=132, most=100) == 1


def test_few_queries_are_split_until_every_processor_works() -> None:
    assert count_splits(blocks=1, tiles=10_000, processors=132, most=1000) >= FULL_ENOUGH * 132


def test_a_second_round_that_is_nearly_empty_is_split() -> None:
    assert 1 < count_splits(blocks=133, tiles=1000, processors=132, most=100) <= FEW


@given(*(st.integers(1, 300) for _ in range(4)))
def test_splits_are_allowed(blocks: int, tiles: int, processors: int, most: int) -> None:
    assert 1 <= count_splits(blocks, tiles, processors, most) <= min(tiles, most)


@pytest.fixture
def autotune(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    module = pytest.importorskip("memsolve_kernels.softmax.autotune")
    monkeypatch.setattr(module, "ENABLED", True)
    monkeypatch.setattr(module, "_chosen", {})
    return module


def test_tuning_keeps_the_fastest(autotune, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    times = []

    def milliseconds(_run: object, preset: Preset) -> float:
        times.append(preset)
        return abs(preset.block_n - 16) + preset.num_stages

    monkeypatch.setattr(autotune, "milliseconds", milliseconds)
    best = autotune.tuned("key", PRESET, print)
    assert (best.block_n, best.num_stages) == (16, 2)
    assert times[0] == PRESET
    assert len(times) == len(set(times))
    assert autotune.tuned("key", PRESET, print) == best
    assert len(times) == len(set(times))


def test_tuning_survives_what_does_not_fit(autotune, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def do_bench(run, **_: object) -> float:  # type: ignore[no-untyped-def]
        run()
        return 1.0

    def run(preset: Preset) -> None:
        if preset != PRESET:
            raise autotune.OutOfResources(300, 227, "shared memory")

    monkeypatch.setattr(autotune.triton.testing, "do_bench", do_bench)
    assert autotune.tuned("key", PRESET, run) == PRESET


def test_tuning_is_off_unless_asked_for(autotune, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(autotune, "ENABLED", False)
    assert autotune.tuned("key", PRESET, pytest.fail) == PRESET
