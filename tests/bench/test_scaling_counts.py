"""What ranks compute and send is what the formulas of `docs/scaling.md` say, call by call."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from memsolve_kernels import matrix_sign, softmax_loss
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.scaling import ways
from bench.scaling.ways import ITEMS_PER_DIM, Exchange
from memsolve import ranks
from memsolve.engine.execution.remote import RemoteRunner
from memsolve.engine.execution.task import Answer
from memsolve.environment import environment
from memsolve.frequencies import Batch
from memsolve.optim import Muon
from memsolve.problem import AssociativeMemory
from memsolve.ranks.group import Group
from memsolve.ranks.serve import run_or_serve
from memsolve.ranks.start import run_on_first_rank
from memsolve.study import Grid, capacity
from tests.ranks import run_ranks

DIM, MATRICES = 32, 8
BATCH, NUM_OUTPUTS = 64, 512

MEMORY: dict[str, Any] = {
    "num_items": ITEMS_PER_DIM * DIM,
    "dim": DIM,
    "alpha": 1.5,
    "seed": 0,
    "device": "cpu",
    "dtype": torch.float32,
}

SIZES: dict[str, Callable[..., int]] = {
    "broadcast": lambda tensor, *_, **__: tensor.nbytes,
    "all_reduce": lambda tensor, *_, **__: tensor.nbytes,
    "all_to_all_single": lambda _, sent, *__, **___: sent.nbytes,
    "gather": lambda tensor, *_, **__: tensor.nbytes * dist.get_world_size(),
    "all_gather": lambda _, tensor, **__: tensor.nbytes * dist.get_world_size(),
}
"""By function of `torch.distributed`, the size of an `Exchange`."""


@contextmanager
def recorded() -> Iterator[list[Exchange]]:
    """The calls of this rank."""
    calls: list[Exchange] = []

    def wrap(name: str) -> Callable[..., Any]:
        function = getattr(dist, name)

        def call(*arguments: Any, **options: Any) -> Any:
            kind: Any = name.removesuffix("_single")
            calls.append(Exchange(kind, SIZES[name](*arguments, **options)))
            return function(*arguments, **options)

        return call

    functions: dict[str, Any] = {name: wrap(name) for name in SIZES}
    inside = patch.multiple(distributed_c10d, **functions)  # for objects, which it sends as tensors
    with inside, patch.multiple(dist, **functions):
        yield calls


def memory_step() -> list[Exchange]:
    """A gradient and a recall of a memory, whose items the ranks share, if there are several."""

    def step() -> list[Exchange]:
        first_rank = ranks.current()
        make = AssociativeMemory if first_rank is None else first_rank.memory
        memory = make(**MEMORY)
        population, weight = memory.population(), torch.eye(DIM)
        with recorded() as calls:
            memory.loss_and_gradient(weight, population)
            memory.recall(weight)
        return calls

    if dist.get_world_size() == 1:
        return run_on_first_rank(step) or []
    return run_or_serve(Group(), step) or []


def replicated_muon() -> list[Exchange]:
    """A step of Muon on equal parameters of all ranks."""
    params = [torch.nn.Parameter(torch.zeros(DIM, DIM)) for _ in range(MATRICES)]
    for param in params:
        param.grad = torch.eye(DIM)
    optimizer = Muon(params, lr=0.1, process_group=dist.group.WORLD)
    with recorded() as calls:
        optimizer.step()
    return calls


def sharded_muon() -> list[Exchange]:
    """A step of Muon on parameters whose rows are sharded."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def shard(matrix: Tensor) -> DTensor:
        return distribute_tensor(matrix, mesh, [Shard(0)])

    params = [torch.nn.Parameter(shard(torch.zeros(DIM, DIM))) for _ in range(MATRICES)]
    for param in params:
        param.grad = shard(torch.eye(DIM))
    optimizer = Muon(params, lr=0.1)
    with recorded() as calls:
        optimizer.step()
    return calls


def sharded_outputs() -> list[Exchange]:
    """The loss of the kernels with its gradients, by shards of the outputs."""
    rank, size = dist.get_rank(), dist.get_world_size()
    queries = torch.eye(BATCH, DIM).requires_grad_()
    shard = torch.eye(NUM_OUTPUTS, DIM).chunk(size)[rank].clone().requires_grad_()
    with recorded() as calls:
        loss = softmax_loss(queries, shard, torch.arange(BATCH), group=dist.group.WORLD)
        loss.backward()
    return calls


COUNTED = {
    memory_step: ways.items_shared(DIM),
    replicated_muon: ways.muon_replicated(DIM, MATRICES),
    sharded_muon: ways.muon_sharded(DIM, MATRICES),
    sharded_outputs: ways.kernel_outputs(BATCH, NUM_OUTPUTS, DIM, width=ways.FLOAT32),
}


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("step", COUNTED, ids=lambda step: step.__name__)
def test_ranks_call_what_the_formulas_say(step: Callable[[], list[Exchange]], size: int) -> None:
    calls, derived = run_ranks(step, size)[0], COUNTED[step](size).calls(size)
    assert [call.kind for call in calls] == [call.kind for call in derived]
    padding = size * 8
    for call, other in zip(calls, derived, strict=True):
        if other.size == ways.OPERATION:  # pickled
            assert other.size / 2 < call.size < other.size * 2
        else:
            assert other.size <= call.size <= other.size + padding, call


@pytest.mark.parametrize("size", [1, 2, 4])
def test_products_have_the_flops_of_the_formulas(size: int) -> None:
    """Of the gradient; a recall leaves out what it can."""
    memory = AssociativeMemory(**MEMORY)
    items, weights = (column[::size] for column in memory.population())
    weight = torch.eye(DIM)
    batch = Batch(items, weights)
    flops = flops_of(lambda: memory.loss_and_gradient(weight, batch))
    assert flops == ways.gradient_flops(memory.num_items, DIM) / size
    recall = flops_of(lambda: memory.recall(weight, items))
    assert recall <= ways.recall_flops(memory.num_items, DIM) / size


@pytest.mark.parametrize(
    ("sign", "dtype", "options"),
    [
        (ways.DEFAULT_SIGN, torch.float32, {}),
        (ways.DEFAULT_SIGN[:1], torch.float32, {"steps": 2}),  # those in float64
        (ways.FLOAT64_SIGN, torch.float64, {}),
        (ways.STOCK_SIGN, torch.float32, {"schedule": "muon", "dtype": torch.bfloat16}),
    ],
    ids=["default", "wide-steps", "float64", "stock"],
)
def test_signs_have_the_flops_of_the_formulas(
    sign: ways.Sign, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    with FlopCounterMode(display=False) as counter:
        matrix_sign(torch.eye(DIM, dtype=dtype), backend="torch", **options)
    assert counter.get_total_flops() == sum(products.flops for products in sign) * DIM**3


def test_a_task_and_its_answer_have_a_few_kilobytes() -> None:
    """In a process with a short path of modules, which every task names."""
    grid = Grid(optimizers=("muon",), alphas=(1.5,), dims=(8,), seeds=1, num_items=64, device="cpu")
    cells = capacity.cells(grid)[:1]
    executor = Recorder()
    with patch("sys.path", ["/usr/lib/python3/site-packages"] * 6):
        runner = RemoteRunner(executor, capacity, grid, None)
        runner.submit(capacity.measure, grid, cells)
    results = list(capacity.measure(grid, cells))
    answer = Answer(results, None, environment("cpu"), "worker", 0.0, 1.0)
    assert 500 < executor.size < 4000
    assert 250 < len(pickle.dumps(answer)) < 2000


class Recorder(Executor):
    """Keeps the size of a task, and runs none."""

    size = 0

    def submit(self, _: Any, task: bytes, /, **__: Any) -> Future[Any]:  # type: ignore[override]
        self.size = len(task)
        return Future()


def flops_of(function: Callable[[], object]) -> int:
    """Flops of all matrix products that a function computes."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        function()
    flops = 0
    for event in profiler.events():
        if event.name in ("aten::mm", "aten::addmm", "aten::addmm_"):
            (rows, inner), (_, columns) = event.input_shapes["add" in event.name :][:2]
            flops += 2 * rows * inner * columns
    return flops
