"""The simulation and the formulas of `docs/scaling.md` have the limits that they must have."""

import random
from functools import cache
from pathlib import Path

import pytest

from bench.record import write
from bench.repository import ROOT
from bench.scaling import hardware, sweep
from bench.scaling.figure import draw
from bench.scaling.measure import content
from bench.scaling.tables import WAYS, WORKERS, processes_table
from bench.scaling.ways import (
    DEFAULT_SIGN,
    FLOAT32,
    FLOAT64,
    FLOAT64_SIGN,
    STOCK_SIGN,
    Way,
    efficiency,
    items_shared,
    kernel_outputs,
    limit,
    muon_replicated,
    muon_sharded,
    outputs_shared,
    sign_seconds,
)
from memsolve.study.training.search import SEARCH_BUDGET


@cache
def tuned() -> list[sweep.Key]:
    return sweep.tuned_study(random.Random(0))


def test_a_tuned_key_has_the_budget_of_the_search() -> None:
    assert {sum(map(len, key)) for key in tuned()} == {SEARCH_BUDGET * sweep.SEEDS}


def test_one_worker_has_no_idle_time_and_none_are_above_linear() -> None:
    studies = [tuned(), sweep.with_barrier(tuned()), sweep.one_step_study()]
    for keys in studies:
        efficiencies = [sweep.efficiency(keys, workers) for workers in WORKERS]
        assert efficiencies[0] == pytest.approx(1)
        assert all(0 < each < 1 + 1e-9 for each in efficiencies)


def test_a_barrier_costs_where_workers_are_many() -> None:
    barrier = sweep.with_barrier(tuned())
    assert sum(map(len, barrier[0])) == sum(len(runs) for key in tuned() for runs in key)
    for workers in (64, 256, 1024):
        assert sweep.efficiency(tuned(), workers) > sweep.efficiency(barrier, workers)


def test_the_longest_chain_ends_the_scaling() -> None:
    """With a worker for every run, each key takes the longest run of each of its rounds."""
    runs = [run for key in tuned() for round_ in key for run in round_]
    chain = max(sum(max(run.duration for run in round_) for round_ in key) for key in tuned())
    work = sum(run.duration for run in runs)
    assert sweep.efficiency(tuned(), len(runs)) * len(runs) == pytest.approx(work / chain)


def test_the_longest_cells_come_first() -> None:
    """Two workers: the long cell of one, and the short ones of the other."""
    short, long = sweep.Run(1, 1), sweep.Run(3, 3)
    assert sweep.efficiency([[[short]], [[short]], [[short]], [[long]]], 2) == 1


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_one_gpu_exchanges_nothing_and_none_are_above_linear(way: Way) -> None:
    assert way(1).parts(1)["bytes"] == way(1).parts(1)["calls"] == 0
    assert all(efficiency(way, gpus) <= 1 for gpus in (1, 2, 3, 8, 64, 1000))
    gpus, what = limit(way)
    assert round(efficiency(way, 2 * gpus), 2) < 0.5 <= round(efficiency(way, gpus), 2)
    assert what in ("rank 0", "idle", "bytes", "calls")


def test_a_larger_problem_scales_further() -> None:
    for way in (items_shared, outputs_shared):
        assert efficiency(way(1 << 24), 64) > efficiency(way(1 << 12), 64)
        parts = way(1 << 24)(64).parts(64)
        assert parts["bytes"] + parts["calls"] < 1e-3 * parts["computing"]
    assert efficiency(items_shared(1 << 12), 64) > efficiency(outputs_shared(1 << 12), 64)
    assert efficiency(muon_sharded(1 << 24, 64), 64) > 0.999
    assert efficiency(kernel_outputs(64, 1 << 40, 512), 64) > 0.999


def test_a_memorys_bytes_do_not_depend_on_ranks() -> None:
    """16 d^2 and a byte for each item, less what a rank need not send to itself."""
    dim = 1000
    passing = items_shared(dim)(1 << 20).passing(1 << 20)
    assert passing == pytest.approx(4 * FLOAT32 * dim**2 + 64 * dim, rel=1e-4)


def test_the_bytes_of_muon_fall_only_where_parameters_are_sharded() -> None:
    replicated, sharded = (
        [way(256, 128)(gpus).passing(gpus) for gpus in (32, 64)]
        for way in (muon_replicated, muon_sharded)
    )
    assert replicated == pytest.approx([128 * 256**2 * FLOAT32] * 2, rel=1e-4)
    assert sharded[1] == pytest.approx(sharded[0] / 2, rel=0.05)
    assert efficiency(muon_sharded(1 << 20, 8), 64) == pytest.approx(1 / 8, rel=0.01)


def test_numbers_in_the_text_are_those_of_the_formulas() -> None:
    """Of `docs/scaling.md`, where they are in no table."""
    items, outputs = (way(8192)(64).passing(64) for way in (items_shared, outputs_shared))
    assert round(outputs / items) == 25
    float64 = items_shared(8192, FLOAT64, FLOAT64_SIGN)
    assert limit(float64) == (256, "rank 0")
    assert sign_seconds(FLOAT64_SIGN, 1) / sign_seconds(DEFAULT_SIGN, 1) == pytest.approx(3, 0.02)
    for dim, largest in (850, "calls"), (950, "rank 0"):
        parts = items_shared(dim)(64).parts(64)
        del parts["computing"]
        assert max(parts, key=lambda part: parts[part]) == largest
    token = 6 / (hardware.PRODUCTS * hardware.BFLOAT16)
    numbers = (DEFAULT_SIGN, 37, 0.95, 0.97, 90), (STOCK_SIGN, 2, 0.51, 0.67, 5)
    for sign, replicated, sharded, sharded_large, tokens in numbers:
        duration = sign_seconds(sign, 1)
        between_nodes = duration * hardware.INFINIBAND
        assert round(between_nodes * 4096 / 4) == replicated
        shares = [1 / (1 + 8 / (between_nodes * dim)) for dim in (4096, 8192)]
        assert [round(share, 2) for share in shares] == [sharded, sharded_large]
        assert round(duration / token) == tokens
    assert round(sign_seconds(STOCK_SIGN, 1) * hardware.NVLINK * 4096 / 4) == 18
    kernels = WAYS["kernels, outputs sharded"](16)
    assert kernels.passing(16) / hardware.NVLINK == pytest.approx(kernels.shared / 16, rel=0.1)


def test_the_table_of_processes_is_that_of_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "processes.json"
    assert processes_table(path) == "Not measured yet."
    monkeypatch.setattr("sys.argv", ["measure"])
    write(path, content({"sweep": {"1": 6.0, "2": 4.0, "4": 3.0}}))
    table = processes_table(path)
    assert "| 6 s (1.00) | 4 s (0.75) | 3 s (0.50) |" in table
    assert "`python -m bench.scaling.measure`" in table
    assert processes_table() in (ROOT / "docs/scaling.md").read_text()


def test_the_figure_names_every_curve() -> None:
    sweeps, ways = draw().axes
    assert ways.get_legend_handles_labels()[1] == list(WAYS)
    assert len(sweeps.get_legend_handles_labels()[1]) == 3
