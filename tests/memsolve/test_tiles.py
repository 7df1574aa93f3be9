"""A memory without tables: the rows of its tables, its results to the bit, the memory it takes."""

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, Batch, passes, tables
from memsolve.cli import run_command
from memsolve.engine import peak as engine_peak
from memsolve.engine.peak import GIGABYTE, Peak, available_bytes, resident_bytes
from memsolve.normals import BLOCK, BlockSource, SequentialSource, normal_source
from memsolve.objective import Objective
from memsolve.optimizers.registry import builder
from memsolve.recall import Recall
from memsolve.study import capacity, damping, dynamics
from memsolve.tables import HeldTable, Table, TableNotHeldError, draw_tables, rows_at_once
from memsolve.training import Trainer

CPU = torch.device("cpu")
DTYPES = st.sampled_from([torch.float32, torch.float64])


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """Tiles, parts and passes of few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "TILE_ROWS", 16)
        patch.setattr(tables, "PART_ROWS", 32)
        patch.setattr(passes, "QUERIES", 8)
        yield


def pairs(
    source: str, seed: int, shape: tuple[int, int], dtype: torch.dtype, kappa: float
) -> list[tuple[Table, Table]]:
    """The inputs of a seed as a tensor, and drawn again; likewise the outputs."""

    def make(hold: bool) -> tuple[Table, Table]:
        generator = torch.Generator().manual_seed(seed)
        normals = SequentialSource(generator) if source == "cpu" else BlockSource(seed, CPU)
        return draw_tables(normals, shape, dtype, (kappa, kappa / 2), hold)

    return [*zip(make(hold=True), make(hold=False), strict=True)]


@given(
    st.sampled_from(["cpu", "blocks"]),
    st.integers(0, 99),
    st.integers(1, 150),
    st.sampled_from([1, 2, 3, 5, 8, 17]),
    DTYPES,
    st.sampled_from([0.0, 0.7]),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_rows_and_parts_are_those_of_the_table_bit_for_bit(
    source: str,
    seed: int,
    num_items: int,
    dim: int,
    dtype: torch.dtype,
    kappa: float,
    data: st.DataObject,
) -> None:
    for held, drawn in pairs(source, seed, (num_items, dim), dtype, kappa):
        items = st.lists(st.integers(0, num_items - 1), max_size=20)
        some = torch.tensor(data.draw(items), dtype=torch.int64)
        assert torch.equal(drawn.rows(some), held.tensor[some])
        parts = [*drawn.map_parts(lambda start, part: (start, part.clone()))]
        assert torch.equal(torch.cat([part for _, part in parts]), held.tensor)
        assert [start for start, _ in parts] == [start for start, _ in held.bounds]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 3, 5, 17])
def test_a_cpu_draws_the_numbers_of_randn(dim: int, dtype: torch.dtype) -> None:
    """Of both tables, whatever torch does with the last numbers of a tensor."""
    for num_items in (1, 15, 16, 47, 48, 49, 97, 161):
        generator = torch.Generator().manual_seed(1)
        source = SequentialSource(torch.Generator().manual_seed(1))
        drawn = draw_tables(source, (num_items, dim), dtype, (0.0, 0.0), hold=False)
        for table in drawn:
            expected = torch.randn(num_items, dim, generator=generator, dtype=dtype)
            rows = table.rows(torch.arange(num_items))
            assert torch.equal(rows, expected * dim**-0.5)


def memories(
    num_items: int, dim: int, dtype: torch.dtype, kappa: float
) -> tuple[AssociativeMemory, AssociativeMemory]:
    """A memory with tables, and the same without."""
    held, drawn = (
        AssociativeMemory(
            num_items, dim, 1.5, seed=2, dtype=dtype, anisotropy=kappa, hold_tables=hold
        )
        for hold in (True, False)
    )
    return held, drawn


def results(memory: AssociativeMemory, batch: Batch) -> dict[str, Tensor]:
    """What every operation of a memory returns."""
    generator = torch.Generator().manual_seed(1)
    weight, direction = torch.randn(
        2, memory.dim, memory.dim, generator=generator, dtype=torch.float64
    ).to(memory.dtype)
    loss, gradient = memory.loss_and_gradient(weight, batch)
    moments = memory.gradient_moments(weight)
    retrieval = memory.retrieval(weight, batch.items)
    return {
        "mean": memory.mean_output,
        "input moment": memory.input_moment,
        "covariance": memory.output_covariance,
        "at zero": memory.gradient_at_zero(batch),
        "loss": memory.loss(weight, batch),
        "loss with gradient": loss,
        "gradient": gradient,
        "hvp": memory.hvp(weight, direction, batch),
        "curvature": memory.curvature(batch, weight).inputs,
        "recovered": memory.recall(3 * weight).recovered,
        "some recovered": memory.recall(weight, batch.items.flip(0)).recovered,
        **{f"moment {name}": value for name, value in moments._asdict().items()},
        **{f"retrieval {name}": value for name, value in retrieval._asdict().items()},
    }


@given(st.integers(1, 200), st.sampled_from([2, 5, 16]), DTYPES, st.sampled_from([0.0, 0.7]))
@settings(max_examples=10, deadline=None)
def test_no_bit_depends_on_whether_tables_are_held(
    num_items: int, dim: int, dtype: torch.dtype, kappa: float
) -> None:
    held, drawn = memories(num_items, dim, dtype, kappa)
    batch = held.sample(60, torch.Generator().manual_seed(0))
    expected = results(held, batch)
    for name, value in results(drawn, batch).items():
        assert torch.equal(value, expected[name]), name


@given(st.integers(1, 200), st.sampled_from([2, 5, 16]), st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_parts_change_results_by_rounding_alone(num_items: int, dim: int, seed: int) -> None:
    memory = AssociativeMemory(num_items, dim, 1.5, seed=seed)
    batch = memory.sample(60, torch.Generator().manual_seed(seed))
    in_parts = results(memory, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PART_ROWS", 1 << 16)
        whole = AssociativeMemory(num_items, dim, 1.5, seed=seed)
        for name, value in results(whole, batch).items():
            torch.testing.assert_close(in_parts[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_a_table_of_one_part_is_used_as_in_earlier_versions() -> None:
    memory = AssociativeMemory(30, 6, 1.5, seed=0)
    assert torch.equal(memory.mean_output, memory.outputs.mean(0))
    centred = memory.outputs - memory.outputs.mean(0)
    assert torch.equal(memory.output_covariance, centred.T @ centred / 30)
    assert torch.equal(memory.input_moment, memory.inputs.T @ memory.inputs / 30)


def test_survivors_that_fill_a_part_meet_the_other_outputs_in_turns() -> None:
    """With more dimensions than items every item is recovered, so that none is dropped."""
    memory = AssociativeMemory(150, 200, 1.5, seed=0, hold_tables=False)
    items = torch.arange(150)
    tables_held = [table.rows(items) for table in (memory._inputs, memory._outputs)]
    weight = torch.linalg.lstsq(*tables_held).solution.T.contiguous()
    recall = memory.recall(weight)
    assert isinstance(recall, Recall)
    assert recall.count == 150
    assert memory.recall(-weight).count == 0


@pytest.mark.parametrize("name", ["newton", "muon", "torch.optim.Adam"])
def test_training_takes_the_same_steps_without_tables(name: str) -> None:
    weights = []
    for memory in memories(100, 6, torch.float64, 0.0):
        batch = memory.sample(80, torch.Generator().manual_seed(0))
        trainer = Trainer(Objective(memory, batch), builder(name))
        for _ in range(3):
            trainer.step(batch)
        weights.append(trainer.weight.detach())
    assert torch.equal(*weights)


def test_the_loss_of_several_parts_is_differentiable_twice() -> None:
    memory = AssociativeMemory(100, 4, 1.5, seed=0, hold_tables=False)
    batch = memory.sample(50, torch.Generator().manual_seed(0))
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight.requires_grad_()

    def loss(weight: Tensor) -> Tensor:
        return memory.loss(weight, batch)

    assert torch.autograd.gradcheck(loss, weight)
    assert torch.autograd.gradgradcheck(loss, weight)


def test_tables_that_are_not_held_cannot_be_read_by_mistake() -> None:
    memory = AssociativeMemory(50, 4, 1.5, seed=0, hold_tables=False)
    assert (memory.num_items, memory.dim, memory.dtype) == (50, 4, torch.float64)
    with pytest.raises(TableNotHeldError, match=r"embeddings \(50, 4\).*hold_tables=True"):
        memory.outputs.mean()
    memory.inputs = memory.outputs = torch.eye(4, dtype=torch.float64)
    assert isinstance(memory._inputs, HeldTable)
    assert memory.recall(torch.eye(4, dtype=torch.float64)).count == 4


def test_tables_are_held_by_their_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tables.HELD_BYTES, "cpu", 2 * 100 * 4 * 8)
    assert isinstance(AssociativeMemory(100, 4, 1.5, seed=0)._inputs, HeldTable)
    assert not isinstance(AssociativeMemory(101, 4, 1.5, seed=0)._inputs, HeldTable)
    float32 = AssociativeMemory(200, 4, 1.5, seed=0, dtype=torch.float32)
    assert isinstance(float32._inputs, HeldTable)


def test_a_part_is_bounded_in_bytes_and_of_whole_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TILE_ROWS", 1 << 12)
    monkeypatch.setattr(tables, "PART_ROWS", 1 << 16)
    assert rows_at_once(512, torch.float64) == rows_at_once(1024, torch.float32) == 1 << 16
    assert rows_at_once(1000, torch.float64) == 1 << 15
    assert rows_at_once(1 << 20, torch.float64) == 1 << 12


def test_a_gpu_draws_blocks_whose_numbers_do_not_depend_on_what_is_drawn_before() -> None:
    """The blocks do not depend on the device, so that a CPU can show it."""
    shape, dtype = (3 * BLOCK // 7, 7), torch.float32
    whole = BlockSource(5, CPU).draw(shape, dtype)
    table = BlockSource(5, CPU).describe(shape, dtype, [0])
    for start in (2 * BLOCK // 7, 17, 0):
        rows = torch.empty(100, 7)
        table.fill(rows, start)
        assert torch.equal(rows, whole[start : start + 100])
    source = BlockSource(5, CPU)
    source.draw((10, 10), torch.float64)  # the next table has other numbers, whatever its size
    assert not torch.equal(source.draw(shape, dtype), whole)
    assert not torch.equal(BlockSource(-5, CPU).draw(shape, dtype), whole)
    assert whole.mean().abs() < 5 * whole.numel() ** -0.5
    assert whole.std() == pytest.approx(1, abs=0.02)


def test_a_cpu_has_one_sequence_and_other_devices_have_blocks() -> None:
    assert isinstance(normal_source(0, CPU), SequentialSource)
    assert isinstance(normal_source(0, torch.device("meta")), BlockSource)


def test_the_peak_counts_tables_or_states_and_the_largest_work() -> None:
    grid = replace(capacity.grid, optimizers=("muon",), device="cpu", dims=(64,))
    held = capacity.peak(replace(grid, num_items=2_000_000))
    drawn = capacity.peak(replace(grid, num_items=8_000_000))
    assert held is not None
    assert drawn is not None
    assert 2.05e9 < held.cell_bytes < 2.3e9
    assert drawn.cell_bytes < 0.5e9
    (both,) = {capacity.peak(replace(grid, dims=(32, 64), num_items=2_000_000))}
    assert both == held


def test_the_peak_follows_the_batches_and_the_optimizers() -> None:
    training = replace(dynamics.grid, dims=(64,), num_items=50_000, optimizers=("sgd",))
    small, large = (dynamics.peak(replace(training, batch_sizes=(size,))) for size in (64, 10**6))
    assert small is not None
    assert large is not None
    assert small.cell_bytes < large.cell_bytes
    first, second = (
        dynamics.peak(replace(training, optimizers=(name,))) for name in ("sgd", "newton")
    )
    assert first is not None
    assert second is not None
    assert first.cell_bytes < second.cell_bytes
    assert damping.peak(replace(damping.grid, device="no device")) is None


def test_the_stated_line_names_the_cell_and_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = Peak(1e9, 64, 1000, "cpu")
    monkeypatch.setattr(engine_peak, "resident_bytes", lambda: 0.5e9)
    monkeypatch.setattr(engine_peak, "available_bytes", lambda device: 4e9)
    assert peak.format() == "memory: at most 1.50 GB (d = 64, N = 1000)"
    assert peak.format(2) == "memory: at most 3.00 GB (2 processes, each d = 64, N = 1000)"
    assert "but 4.00 GB are free: lower --num-items" in peak.format(4)
    monkeypatch.setattr(engine_peak, "available_bytes", lambda device: None)
    assert "free" not in peak.format(1000)
    assert resident_bytes() > 1e7
    assert available_bytes("meta") is None


def test_a_command_states_the_peak_before_the_first_cell_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--dims 8 --seeds 1 --optimizers sgd --device cpu --out"
    words = ["capacity", *options.split()]
    assert run_command([*words, str(tmp_path)]) == 0
    assert "memory" not in capsys.readouterr().err
    monkeypatch.setattr("memsolve.cli.STATED", 0)
    assert run_command([*words, str(tmp_path), "--resume"]) == 0
    assert "memory" not in capsys.readouterr().err  # everything is kept
    assert run_command([*words, str(tmp_path / "b")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"memory: at most \d+\.\d\d GB \(d = 8, N = 1024\)(, but .*)?", line)


MEASURED = """
import re, sys
from dataclasses import replace
from pathlib import Path
from memsolve import tables
from memsolve.engine.prepare import prepare
from memsolve.study import capacity
tables.HELD_BYTES["cpu"] = int(sys.argv[1])
grid = replace(capacity.grid, optimizers=("sgd",), dims=(32,), num_items=800_000, seeds=1)
grid = prepare(replace(grid, device="cpu")).grid
print(capacity.peak(grid).total())
list(capacity.measure(grid, capacity.cells(grid)))
status = Path("/proc/self/status").read_text()
print(1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]))
"""
"""The high-water mark of `/proc`; `ru_maxrss` would count the parent's memory, too."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/status")
@pytest.mark.parametrize("held", [0, 1 << 31])
def test_the_stated_peak_is_what_a_process_takes(held: int) -> None:
    command = [sys.executable, "-c", MEASURED, str(held)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    stated, measured = map(float, done.stdout.split())
    assert math.isclose(stated, measured, rel_tol=0.15), (stated / GIGABYTE, measured / GIGABYTE)
