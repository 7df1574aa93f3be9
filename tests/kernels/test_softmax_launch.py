"""How the Triton kernels are launched: splits, and tuning where it is asked for."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memsolve_kernels.launch import recorded
from memsolve_kernels.softmax.presets import Preset, neighbours, presets
from memsolve_kernels.softmax.splits import FEW, FULL_ENOUGH, count_splits
from memsolve_kernels.tuning import fastest, tuning

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


@pytest.fixture(autouse=True)
def nothing_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memsolve_kernels.tuning._chosen", {})


def test_tuning_keeps_the_fastest() -> None:
    pytest.importorskip("triton")
    tried: list[Preset] = []

    def milliseconds(call: Callable[[], object]) -> float:
        call()
        return abs(tried[-1].block_n - 16) + tried[-1].num_stages

    with tuning():
        best = fastest("key", neighbours(PRESET), tried.append, milliseconds)
    assert (best.block_n, best.num_stages) == (16, 2)
    assert tried[0] == PRESET
    assert len(tried) == len(set(tried))
    timed = len(tried)
    assert fastest("key", neighbours(PRESET), tried.append, milliseconds) == best
    assert len(tried) == timed


def test_tuning_survives_what_does_not_fit() -> None:
    resources = pytest.importorskip("triton.runtime.errors")

    def run(preset: Preset) -> None:
        if preset != PRESET:
            raise resources.OutOfResources(300, 227, "shared memory")

    def milliseconds(call: Callable[[], object]) -> float:
        call()
        return 1.0

    with tuning():
        assert fastest("key", reversed([*neighbours(PRESET)]), run, milliseconds) == PRESET


def test_tuning_is_off_unless_asked_for() -> None:
    assert fastest("key", neighbours(PRESET), lambda _: pytest.fail("timed")) == PRESET


@pytest.mark.parametrize("items", [5_000_000, 20_000_000])
def test_a_grid_stays_within_cudas_limits(items: int) -> None:
    """One query against millions of items: the most tiles that one chunk of scratch has."""
    pytest.importorskip("triton")
    from memsolve_kernels.softmax.triton_kernels import scratch

    query, outputs = (torch.empty(n, 1024, dtype=torch.half, device="meta") for n in (1, items))
    targets = torch.zeros(1, dtype=torch.int64, device="meta")
    weigh, add = (presets(family, "half", 90)[-1] for family in ("weights", "accumulate"))
    with recorded() as launches:
        scratch.odds(query, outputs, targets, weigh, add, "ieee", splits=8)
    assert max(max(launch.grid[1:]) for launch in launches) < 2**16
    weighed = launches[::2]
    tiles = sum(launch.grid[1] for launch in weighed)
    assert tiles == -(-items // weigh.block_n)
