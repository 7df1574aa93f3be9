"""Optimizers that do not step by the learning rate that is set in their groups."""

from typing import Any

import pytest
import torch

from memsolve.engine.run import run
from memsolve.faults import StepError
from memsolve.objective import Objective
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.lr_behavior import lr_behavior
from memsolve.optimizers.probe import probe
from memsolve.optimizers.registry import builder
from memsolve.optimizers.requirements import tiny_objective
from memsolve.study import TrainingGrid, dynamics
from memsolve.study.training.tuning import unit_lr
from memsolve.training import GroupLrs, Trainer, lr_of_step

HERE = __name__


class Scheduled(torch.optim.SGD):
    """Halves its learning rate in every step, by a scheduler that remembers the first one."""

    def __init__(self, params: Any, lr: float = 1.0) -> None:
        super().__init__(params, lr=lr, momentum=0.5)
        self.scheduler: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LambdaLR(
            self, lambda step: 0.5**step
        )

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.scheduler.step()


class Late(Scheduled):
    """Changes its learning rate after 40 steps for the first time."""

    def __init__(self, params: Any, lr: float = 1.0) -> None:
        super().__init__(params, lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self, 40)


class Hidden(torch.optim.SGD):
    """Keeps the learning rate of its constructor."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr, momentum=0.5)
        self.lr = lr

    def step(self, closure: Any = None) -> Any:
        self.param_groups[0]["lr"] = self.lr
        return super().step(closure)


class Fixed(Hidden):
    """Has a learning rate that nobody can change."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=2.0)


class Random(Fixed):
    """Ignores learning rates, and draws its steps."""

    def step(self, closure: Any = None) -> Any:
        (param,) = self.param_groups[0]["params"]
        param.grad.mul_(torch.rand_like(param))
        return super().step()


class Chain:
    """Two optimizers of one weight, with a learning rate each; no `torch.optim.Optimizer`."""

    def __init__(self, params: Any) -> None:
        self.parts = [torch.optim.SGD(params, lr=0.3), torch.optim.SGD(params, lr=0.1)]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()


def make_scheduled(params: Any) -> torch.optim.Optimizer:
    return Scheduled(params, lr=2.0)


class WithoutLr(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for param in self.param_groups[0]["params"]:
            param.sub_(param.grad)


@pytest.mark.parametrize(
    ("choice", "remark", "schedule"),
    [
        ("sgd", "", None),
        ("torch.optim.AdamW", "", None),
        ("torch.optim.LBFGS", "", None),
        ("newton", "", None),
        ("memsolve.examples.optimizers.MuonH", "", None),
        ("memsolve.examples.optimizers.KLSOAP", "", None),
        (f"{HERE}.Chain", "", None),
        (f"{HERE}.Scheduled", "sets its own lr", "own"),
        (f"{HERE}.Late", "sets its own lr", "own"),
        (f"{HERE}:make_scheduled", "sets its own lr", "fixed"),
        (f"{HERE}.Hidden", "keeps its first lr", "own"),
        (f"{HERE}.Fixed", "ignores lr", "fixed"),
        (f"{HERE}.WithoutLr", "ignores lr", "fixed"),
        (f"{HERE}.Random", "", None),
        ("torch.optim.SGD:lr=0", "", None),
    ],
)
def test_how_an_optimizer_treats_learning_rates(
    choice: Choice, remark: str, schedule: str | None
) -> None:
    behavior = lr_behavior(builder(choice), "cpu", torch.float64)
    assert behavior == (remark, schedule)
    assert remark in probe("it", choice, "cpu", torch.float64)


@pytest.mark.parametrize(
    ("name", "remark"),
    [("AdaFactor", "ignores lr"), ("ApolloDQN", "keeps its first lr"), ("ASGD", "sets its own lr")],
)
def test_optimizers_of_packages_that_set_it_themselves(name: str, remark: str) -> None:
    pytest.importorskip("pytorch_optimizer")
    behavior = lr_behavior(builder(f"pytorch_optimizer.{name}"), "cpu", torch.float64)
    assert behavior.remark == remark


def test_an_lr_for_each_group_is_noticed_and_their_ratio_is_kept() -> None:
    assert "an lr for each group" in probe("it", f"{HERE}.Chain", "cpu", torch.float64)
    objective = tiny_objective("cpu", torch.float64)
    trainer = Trainer(objective, builder(f"{HERE}.Chain"))
    state = trainer.step(objective.batch, 6.0)
    assert state is not None
    torch.testing.assert_close(state.weight, -(6.0 + 2.0) * objective.gradient_at_zero())
    trainer.step(objective.batch)
    assert trainer.lrs.current() == pytest.approx([6.0, 2.0])


def test_one_group_gets_exactly_the_lr_that_is_set() -> None:
    param = torch.nn.Parameter(torch.zeros(1))
    for base in (0.3, torch.tensor(0.3), float("inf"), 0.0):
        optimizer = torch.optim.SGD([param], lr=base)
        GroupLrs(optimizer).set(0.1)
        assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_frozen_group_stays_frozen() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    GroupLrs(optimizer).set(7.0)
    assert [group["lr"] for group in optimizer.param_groups] == [7.0, 0.0]


def test_the_trainer_leaves_own_schedules_alone() -> None:
    assert lr_of_step("own", 2.0, 3, 9) is lr_of_step("fixed", 2.0, 3, 9) is None
    assert lr_of_step("geometric", 2.0, 3, 9, 0.5) == 0.25


def weights(choice: Choice, lrs: list[float | None], objective: Objective) -> list[torch.Tensor]:
    trainer = Trainer(objective, builder(choice))
    states = [trainer.step(objective.batch, lr) for lr in lrs]
    return [state.weight.clone() for state in states if state is not None]


def test_a_scheduler_inside_is_kept_and_its_first_lr_is_tuned() -> None:
    """The runs of a study are those of the optimizer alone, made with the selected lr."""
    grid = TrainingGrid([f"{HERE}.Scheduled"], dims=(8,), num_items=64, seeds=1, steps=4)
    (fit,) = run(dynamics, grid).fits
    (point,) = fit.points
    assert set(point.trial_schedules) == {"own"}
    assert 5 <= len(set(point.trial_lrs)) <= 9
    objective = tiny_objective("cpu", torch.float64)
    rebuilt = builder(f"{HERE}.Scheduled").with_lr(3.0)
    assert rebuilt is not None
    trainer = Trainer(objective, rebuilt)
    for _ in range(3):
        trainer.step(objective.batch)
    assert trainer.lrs.current() == [3.0 / 8]


def test_an_optimizer_that_ignores_lr_gets_one_trial() -> None:
    names = [f"{HERE}.Fixed", f"{HERE}.WithoutLr"]
    grid = TrainingGrid(names, dims=(8,), num_items=64, seeds=1, steps=3)
    for fit in run(dynamics, grid).fits:
        (point,) = fit.points
        assert point.trial_schedules == ["fixed"]
        assert not point.edges
        assert "the optimizer's own learning rates" in dynamics.detail(point)
        assert "learning rate 1" not in dynamics.detail(point)


def test_the_unit_of_a_first_lr_does_not_depend_on_the_default() -> None:
    """The same first step at the same learning rate as SGD has the same unit."""
    names = ["sgd", f"{HERE}.Hidden", f"{HERE}.Scheduled"]
    grid = TrainingGrid(names, dims=(8,), num_items=64, device="cpu")
    sgd, *others = (unit_lr(grid, name, 1.5, 8) for name in names)
    assert others == [sgd, sgd]


def test_an_lr_in_its_name_is_the_first_of_its_own_schedule() -> None:
    grid = TrainingGrid([f"{HERE}.Hidden:lr=0.25"], dims=(8,), num_items=64, seeds=1, steps=3)
    (fit,) = run(dynamics, grid).fits
    assert fit.points[0].trial_lrs == [0.25]
    assert fit.points[0].schedule == "own"


def test_lr_that_is_no_setting_cannot_be_built_in() -> None:
    assert builder(f"{HERE}.Fixed").with_lr(1.0) is None
    with pytest.raises(StepError, match="no `lr` in its param_groups"):
        weights(f"{HERE}.WithoutLr", [1.0], tiny_objective("cpu", torch.float64))
