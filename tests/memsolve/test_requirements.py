"""Requirements of optimizers: inferred from errors, once for equal builders."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from memsolve.engine import Grid
from memsolve.engine.run import run
from memsolve.optimizers import requirements
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.registry import builder
from memsolve.study import capacity
from memsolve.training import OptimizerRequirements

CPU = torch.device("cpu")


def make(params: Any, lr: float = 1.0, betas: Any = (0.9, 0.99)) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr)


class NeedsBoth(torch.optim.SGD):
    """Differentiates its gradient, and multiplies by a float32 matrix."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        (param,) = self.param_groups[0]["params"]
        torch.autograd.grad(param.grad, param, torch.ones_like(param))
        param.sub_(torch.eye(len(param)) @ param.grad)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OptimizerRequirements]]:
    """The requirements of every trial run from now on, with an empty cache."""
    tried: list[OptimizerRequirements] = []
    run_trial = requirements._trial_error

    def record(build: Any, required: OptimizerRequirements, *where: Any) -> Any:
        tried.append(required)
        return run_trial(build, required, *where)

    monkeypatch.setattr(requirements, "_trial_error", record)
    requirements.infer_requirements.cache_clear()
    yield tried
    requirements.infer_requirements.cache_clear()


def test_a_study_infers_requirements_once_an_optimizer(
    trials: list[OptimizerRequirements],
) -> None:
    """12 cells: two dimensions, three seeds, and a factory swept over two learning rates."""
    grid = Grid({"mine": make}, dims=(4, 8), seeds=3, sweep={"lr": [0.5, 1.0]}, device="cpu")
    assert len(capacity.cells(grid)) == 12
    run(capacity, grid)
    assert len(trials) == 2


def test_each_trial_run_adds_the_requirement_that_the_last_one_lacked(
    trials: list[OptimizerRequirements],
) -> None:
    inferred = builder(NeedsBoth).requirements(CPU, torch.float64)
    assert inferred == OptimizerRequirements(needs_graph=True, needs_float32=True)
    assert trials == [
        OptimizerRequirements(),
        OptimizerRequirements(needs_graph=True),
        OptimizerRequirements(needs_graph=True, needs_float32=True),
    ]
    assert not builder(NeedsBoth).requirements(CPU, torch.float32).needs_float32


@pytest.mark.parametrize(
    "choice",
    [
        "muon",
        "torch.optim.AdamW:lr=0.01:betas=[0.9, 0.95]",
        make,
        torch.optim.SGD,
    ],
)
def test_builders_of_one_choice_are_equal(choice: Choice) -> None:
    assert builder(choice) == builder(choice)
    assert len({builder(choice), builder(choice)}) == 1


def test_partials_compare_by_function_and_arguments() -> None:
    builders = [builder(partial(make, lr=0.5, betas=[0.9, betas])) for betas in (0.99, 0.99, 0.9)]
    assert builders[0] == builders[1] != builders[2]
    assert builder(partial(make, lr=1)) != builder(partial(make, lr=1.0))
    assert builder("torch.optim.SGD:nesterov=1") != builder("torch.optim.SGD:nesterov=True")
