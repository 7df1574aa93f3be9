"""How the Triton kernels are launched: splits, and opt-in tuning."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memsolve_kernels.launch import record_launches
from memsolve_kernels.softmax.plan import (
    FEW_SPLITS,
    FULL_SHARE,
    LaunchConfig,
    TileConfig,
    count_splits,
    neighbours,
    tile_configs,
)
from memsolve_kernels.tuning import fastest, tuning

TILE = TileConfig(block_b=64, block_n=32, block_d=64, num_warps=4, num_stages=2)


def test_one_split_if_queries_fill_the_processors() -> None:
    assert count_splits(blocks=132, tiles=1000, slots=132, limit=100) == 1


def test_few_queries_are_split_until_every_processor_works() -> None:
    assert count_splits(blocks=1, tiles=10_000, slots=132, limit=1000) >= FULL_SHARE * 132


def test_a_second_round_that_is_nearly_empty_is_split() -> None:
    assert 1 < count_splits(blocks=133, tiles=1000, slots=132, limit=100) <= FEW_SPLITS


@given(*(st.integers(1, 300) for _ in range(4)))
def test_splits_are_allowed(blocks: int, tiles: int, slots: int, limit: int) -> None:
    assert 1 <= count_splits(blocks, tiles, slots, limit) <= min(tiles, limit)


@pytest.fixture(autouse=True)
def nothing_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memsolve_kernels.tuning._selected", {})


def test_tuning_keeps_the_fastest() -> None:
    pytest.importorskip("triton")
    calls: list[TileConfig] = []

    def milliseconds(call: Callable[[], object]) -> float:
        call()
        return abs(calls[-1].block_n - 16) + calls[-1].num_stages

    with tuning():
        best = fastest("key", neighbours(TILE), calls.append, milliseconds)
    assert (best.block_n, best.num_stages) == (16, 2)
    assert calls[0] == TILE
    assert len(calls) == len(set(calls))
    timed = len(calls)
    assert fastest("key", neighbours(TILE), calls.append, milliseconds) == best
    assert len(calls) == timed


def test_tuning_survives_what_does_not_fit() -> None:
    resources = pytest.importorskip("triton.runtime.errors")

    def run(tile: TileConfig) -> None:
        if tile != TILE:
            raise resources.OutOfResources(300, 227, "shared memory")

    def milliseconds(call: Callable[[], object]) -> float:
        call()
        return 1.0

    with tuning():
        assert fastest("key", reversed([*neighbours(TILE)]), run, milliseconds) == TILE


def test_tuning_is_off_by_default() -> None:
    assert fastest("key", neighbours(TILE), lambda _: pytest.fail("timed")) == TILE


@pytest.mark.parametrize("items", [5_000_000, 20_000_000])
def test_a_grid_stays_within_cudas_limits(items: int) -> None:
    """One query against millions of items: the maximal number of tiles in a chunk of scratch."""
    pytest.importorskip("triton")
    from memsolve_kernels.softmax.triton_kernels import scratch

    query, outputs = (torch.empty(n, 1024, dtype=torch.half, device="meta") for n in (1, items))
    targets = torch.zeros(1, dtype=torch.int64, device="meta")
    weigh, add = (
        LaunchConfig(tile_configs(name, "half", 90)[-1], "ieee", splits=8)
        for name in ("weights", "accumulate")
    )
    with record_launches() as launches:
        scratch.odds_by_scratch(query, outputs, targets, weigh, add)
    assert max(max(launch.grid[1:]) for launch in launches) < 2**16
    weighed = launches[::2]
    tiles = sum(launch.grid[1] for launch in weighed)
    assert tiles == -(-items // weigh.tile.block_n)
