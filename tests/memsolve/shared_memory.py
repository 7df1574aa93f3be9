"""What ranks compute in the tests of shared memories; light to import, as every rank does."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from memsolve import AssociativeMemory, Batch, InputError, ranks
from memsolve.environment import environment
from memsolve.faults import RankError
from memsolve.ranks import operations, serve
from memsolve.ranks.group import Group
from memsolve.ranks.memory import SharedMemory
from memsolve.recall import Recall
from tests.ranks import run_ranks

N, DIM = 1001, 12
MEMORY: dict[str, Any] = {
    "num_items": N,
    "dim": DIM,
    "alpha": 1.5,
    "seed": 3,
    "device": "cpu",
    "dtype": torch.float64,
}
Vector = npt.NDArray[np.float64]
Values = dict[str, Vector]


def on_ranks(function: Callable[..., Any], size: int, *arguments: Any) -> Any:
    """The value of a function on rank 0, which the other ranks serve."""
    return run_ranks(run_or_serve, size, function, *arguments)[0]


def run_or_serve(function: Callable[..., Any], *arguments: Any) -> Any:
    return serve.run_or_serve(Group(), partial(function, *arguments))


def memory() -> AssociativeMemory:
    return AssociativeMemory(**MEMORY)


def shared_memory() -> SharedMemory:
    first_rank = ranks.current()
    assert first_rank is not None
    return first_rank.memory(**MEMORY)


def random_weight(seed: int = 0, scale: float = 4.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)


def operations_of(memory: AssociativeMemory) -> Values:
    """The value of every operation of a memory, by name."""
    weight, direction = random_weight(0), random_weight(1).T
    values: dict[str, Any] = {
        "moments": memory.gradient_moments(weight),
        "moments at zero": memory.gradient_moments(),
        "moments of some": memory.gradient_moments(weight, torch.arange(7, 200, 3)),
        "retrieval": memory.retrieval(weight, torch.tensor([5, 1, 1, 700])),
        "recall": memory.recall(weight),
        "recall of some": memory.recall(weight, torch.tensor([8, 3, 3, 1000, 0])),
        "recall of none": memory.recall(weight, torch.tensor([], dtype=torch.int64)),
        "input moment": memory.input_moment,
        "output covariance": memory.output_covariance,
        "mean output": memory.mean_output,
    }
    for name, batch in batches(memory).items():
        values |= {
            f"{operation}, {name}": value
            for operation, value in operations_of_batch(memory, weight, direction, batch)
        }
    return {name: flatten(value) for name, value in values.items()}


def batches(memory: AssociativeMemory) -> dict[str, Batch]:
    population = memory.population()
    one = torch.tensor([500])
    return {
        "population": population,
        "batch": memory.sample(77, torch.Generator().manual_seed(0)),
        "odd ranks": Batch(population.items[1::2], population.weights[1::2]),
        "one item": Batch(one, torch.ones(1, dtype=torch.float64)),
        "no items": Batch(one[:0], population.weights[:0]),
    }


def operations_of_batch(
    memory: AssociativeMemory, weight: Tensor, direction: Tensor, batch: Batch
) -> Iterator[tuple[str, Any]]:
    yield "loss", memory.loss(weight, batch)
    yield "loss and gradient", memory.loss_and_gradient(weight, batch)
    yield "gradient", memory.gradient(weight, batch)
    yield "gradient at zero", memory.gradient_at_zero(batch)
    yield "hvp", memory.hvp(weight, direction, batch)
    yield "curvature", memory.curvature(batch)
    yield "curvature at a weight", memory.curvature(batch, weight)
    leaf = weight.clone().requires_grad_()
    loss = memory.loss(leaf, batch)
    (gradient,) = torch.autograd.grad(loss.square(), leaf, create_graph=True)
    (product,) = torch.autograd.grad((gradient * direction).sum(), leaf)
    yield "loss by autograd", loss
    yield "first derivative", gradient
    yield "second derivative", product


def flatten(value: Any) -> Vector:
    """Its numbers in one vector."""
    if isinstance(value, Recall):
        value = value.items, value.recovered
    tensors = [value] if isinstance(value, Tensor) else value
    return np.concatenate([each.detach().double().reshape(-1).numpy() for each in tensors])


def shared_operations() -> tuple[Values, Values]:
    """The operations of a shared memory, twice."""
    return operations_of(shared_memory()), operations_of(shared_memory())


def trained(memory: AssociativeMemory) -> Vector:
    """The weight after steps of an optimizer that differentiates gradients."""
    from memsolve.objective import Objective
    from memsolve.optimizers.registry import builder
    from memsolve.training import OptimizerRequirements, Trainer

    objective = Objective(memory, memory.population())
    needs_graph = OptimizerRequirements(needs_graph=True)
    trainer = Trainer(objective, builder(DiagonalNewton), needs_graph)
    for step in range(3):
        trainer.step(memory.sample(200, torch.Generator().manual_seed(step)))
    weight: Vector = trainer.weight.detach().numpy()
    return weight


class DiagonalNewton(torch.optim.Optimizer):
    """Divides by an estimate of the Hessian's diagonal, by autograd."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.5})

    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                signs = random_weight(2).sign()
                (product,) = torch.autograd.grad((param.grad * signs).sum(), param)
                with torch.no_grad():
                    param -= group["lr"] * param.grad / ((product * signs).abs() + 0.01)


def trained_shared() -> Vector:
    return trained(shared_memory())


def errors_of_first_rank() -> list[str]:
    """The errors of rank 0 where its arguments are refused; the operation after each is right."""
    memory, first_rank = shared_memory(), ranks.current()
    assert first_rank is not None
    weight, batch = random_weight(), memory.population()
    expected = memory.gradient(weight, batch)
    calls: list[Callable[[], object]] = [
        lambda: memory.gradient(weight / 0, batch),
        lambda: memory.gradient(weight[1:], batch),
        lambda: memory.recall(weight, torch.tensor([0.5])),
        lambda: memory.loss(weight, Batch(batch.items + 1, batch.weights)),
        lambda: first_rank.memory(**MEMORY | {"alpha": 0.5}),
        lambda: first_rank.memory(**MEMORY | {"device": "cuda:1"}),
        lambda: _fail_alone(memory, weight),
    ]
    messages = []
    for call in calls:
        with pytest.raises(Exception) as error:  # noqa: PT011
            call()
        messages.append(f"{type(error.value).__name__}: {error.value}")
        assert torch.equal(memory.gradient(weight, batch), expected)
    return messages


def _fail_alone(memory: AssociativeMemory, weight: Tensor) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(operations.SUMS, "hvp", _fail)
        memory.hvp(weight, weight, memory.population())


def errors_of_another_rank() -> list[str]:
    """The errors on rank 0 where the last rank fails alone, in each of several ways."""
    with pytest.MonkeyPatch.context() as patch:
        if Group().rank == 2:
            environments = iter([environment("cpu"), {"memsolve": "0.0.1"}])
            patch.setattr(operations, "environment", lambda _: next(environments))
            patch.setitem(operations.SUMS, "hvp", _fail)
            patch.setitem(operations.ANSWERS, "recall", _run_out_of_memory)
        return run_or_serve(_calls_that_fail) or []


def _fail(*_: Any) -> Any:
    raise RuntimeError("it failed on purpose")


def _run_out_of_memory(*_: Any) -> Any:
    raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 3000 bytes")


def _calls_that_fail() -> list[str]:
    memory, weight = shared_memory(), random_weight()
    messages = []
    for call in (
        lambda: memory.hvp(weight, weight, memory.population()),
        lambda: memory.recall(weight),
        shared_memory,
    ):
        with pytest.raises(RankError) as error:
            call()
        messages.append(str(error.value))
    return messages


def memories_held() -> list[int]:
    """How many memories the ranks hold after each request; on rank 0, none."""
    held: list[int] = []
    perform = serve._perform

    def count(group: Group, memories: dict[int, AssociativeMemory], request: Any) -> None:
        perform(group, memories, request)
        held.append(len(memories))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "_perform", count)
        run_or_serve(_three_memories)
    return held


def _three_memories() -> None:
    for _ in range(3):
        shared_memory().gradient_at_zero(Batch(torch.tensor([1]), torch.ones(1).double()))


SMALL: dict[str, Any] = {"optimizers": ("sgd", "muon"), "num_items": N, "seeds": 1}
TRAINING = SMALL | {"dims": (8,), "steps": 5, "schedules": ("constant",), "lrs": (1.0, 8.0)}
STUDIES: dict[str, dict[str, Any]] = {
    "capacity": SMALL | {"dims": (8, 16)},
    "saturation": SMALL | {"dims": (8,), "optimizers": ("muon", "newton")},
    "dynamics": TRAINING | {"gradient": "thresholded"},
    "critical-batch": TRAINING | {"batch_sizes": (5, 64), "target": "recovered=8"},
}
"""Fields of their grids, by name."""


def studies_in(folder: str) -> dict[str, list[str]]:
    """What each study counts, by name; each has a folder in a folder."""
    from memsolve.engine.run import run
    from memsolve.study import find

    for name, fields in STUDIES.items():
        study = find(name)
        run(study, replace(study.grid, **fields), Path(folder, name))
    return {name: counts(Path(folder, name)) for name in STUDIES}


def counts(folder: Path) -> list[str]:
    """The lines of `points.csv` that hold numbers of items or steps."""
    lines = (folder / "points.csv").read_text().splitlines()
    return [
        line for line in lines if {"recovered", "top_rank", "steps to target"} & {*line.split(",")}
    ]


def studies_and_refusals(folder: str, alone: str) -> tuple[dict[str, list[str]], str, str]:
    """What the studies count, and what is refused: to resume those of one process, and a limit."""
    from memsolve.engine.run import run
    from memsolve.study import capacity

    grid = replace(capacity.grid, **STUDIES["capacity"])
    with pytest.raises(InputError) as resumed:
        run(capacity, grid, Path(alone, "capacity"), resume=True)
    with pytest.raises(InputError) as limited:
        run(capacity, grid, time_limit=9.0)
    return studies_in(folder), str(resumed.value), str(limited.value)
