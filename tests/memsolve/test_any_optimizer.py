"""Unusual optimizers: run as they require, or refused with their own reason."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memsolve import InputError
from memsolve.engine.prepare import RefusedError
from memsolve.engine.run import run
from memsolve.optimizers.choices import Choice
from memsolve.optimizers.probe import probe
from memsolve.study import Grid, TrainingGrid, capacity, dynamics

SMALL: dict[str, Any] = {"dims": (8, 16), "seeds": 2}


class Plain(torch.optim.Optimizer):
    """Steps along minus `update`, the gradient unless a subclass overrides it."""

    def __init__(self, params: Any, lr: float = 1.0, **settings: Any) -> None:
        super().__init__(params, {"lr": lr, **settings})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                param.sub_(self.update(param, group), alpha=group["lr"])

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        return param.grad


class Curved(Plain):
    """Needs gradients with a graph, as AdaHessian does."""

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        noise = torch.ones_like(param)
        (curvature,) = torch.autograd.grad(param.grad, param, noise)
        return param.grad / (1 + curvature.abs())


class Single(Plain):
    """Multiplies by a float32 matrix, from its second step on."""

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        group["count"] = group.get("count", 0) + 1
        return param.grad if group["count"] == 1 else torch.eye(len(param)) @ param.grad


class Grouped(Plain):
    """Reads from each group whether to use Muon."""

    def __init__(self, params: Any, lr: float = 1.0, **settings: Any) -> None:
        for group in params:
            if "use_muon" not in group:
                raise ValueError("`use_muon` must be set.")
        super().__init__(params, lr)

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        return param.grad.sign() if group["use_muon"] else param.grad


class OfModel(Plain):
    """Takes the model in place of its parameters."""

    def __init__(self, model: torch.nn.Module, lr: float = 1.0) -> None:
        self.model = model
        super().__init__(model.parameters(), lr)

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        with torch.enable_grad():
            gradient: torch.Tensor = torch.autograd.grad(self.model(), param)[0]
        return gradient


class Wrapper:
    """No `Optimizer` at all, around one."""

    def __init__(self, optimizer: torch.optim.Optimizer, **settings: Any) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def step(self) -> None:
        self.optimizer.step()

    def train(self) -> None:
        self.optimizer.train()  # type: ignore[attr-defined]


class OfClass(Plain):
    """Makes the optimizer that it wraps itself, as SAM does."""

    def __init__(self, params: Any, base_optimizer: Any, **settings: Any) -> None:
        super().__init__(params)
        self.base = base_optimizer(self.param_groups, lr=2.0)

    def step(self) -> None:  # type: ignore[override]
        self.base.step()


class Late(Plain):
    """Takes no step until the third."""

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        group["count"] = group.get("count", 0) + 1
        late: bool = group["count"] > 2
        return param.grad * late


class Random(Plain):
    """Draws from the three generators that there are."""

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        import random

        assert param.grad is not None
        size = random.random() + np.random.rand()  # noqa: NPY002
        return param.grad * (torch.rand_like(param) > 0.5) * size


class TooLarge(Plain):
    """Fails at the larger of two dimensions."""

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        if len(param) > 8:
            raise RuntimeError("eigh did not converge")
        return param.grad


class Tiring(Plain):
    """Fails after a while."""

    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        group["count"] = group.get("count", 0) + 1
        if group["count"] > 14:
            raise RuntimeError("I am tired")
        return param.grad


class Uphill(Plain):
    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        assert param.grad is not None
        return -param.grad * torch.arange(1, len(param) + 1).to(param)


class Exiting(Plain):
    def update(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        raise SystemExit("no licence")


def make_exit(params: Any) -> torch.optim.Optimizer:
    raise SystemExit(3)


def make(params: Any, lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, momentum=0.9)


def make_nothing(params: Any) -> int:
    return 3


HERE = __name__


@pytest.mark.parametrize(
    ("choice", "remark"),
    [
        (f"{HERE}.Plain", "equals SGD's step"),
        (f"{HERE}.Curved", ""),
        (f"{HERE}.Single", "equals SGD's step, in float32"),
        (f"{HERE}.Grouped", "equals the sign"),
        (f"{HERE}.Grouped:use_muon=False", "equals SGD's step"),
        (f"{HERE}.OfModel", "equals SGD's step"),
        (f"{HERE}.Wrapper:optimizer=torch.optim.SGD", "equals SGD's step"),
        (f"{HERE}.OfClass:base_optimizer=torch.optim.SGD", "equals SGD's step"),
        (f"{HERE}.Late", "no step taken at first"),
        (f"{HERE}.Plain:lr=0", "learning rate zero"),
        (f"{HERE}.Random", "random"),
        (f"{HERE}.Uphill", "uphill"),
        (f"{HERE}:make:lr=0.5", ""),
        (f"{HERE}:Plain", "equals SGD's step"),
        (lambda params: Plain(params), "equals SGD's step"),
        ("torch.optim.AdamW", "equals the sign"),
        ("torch.optim.Adafactor", None),
        ("torch.optim.LBFGS", ""),
        ("sgd", ""),
        ("newton", ""),
    ],
)
def test_it_runs_and_its_first_step_is_known(choice: Choice, remark: str | None) -> None:
    probed = probe("it", choice, "cpu", torch.float64)
    if remark is not None:
        assert probed == remark


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (f"{HERE}.Wrapper", "it wraps an optimizer; name it, as optimizer=torch.optim.AdamW"),
        (f"{HERE}.OfClass", "missing 1 required positional argument: 'base_optimizer'"),
        (f"{HERE}:make_nothing", "made 3; expected a torch.optim.Optimizer"),
        (f"{HERE}:nothing", "does not import"),
        (f"{HERE}.Exiting", "its step failed: it exits, with 'no licence'"),
        (f"{HERE}:make_exit", "it cannot be made: it exits, with 3"),
        (f"{HERE}.Plain:lr=fast", "must be real number|unsupported operand|Expected.*|alpha"),
        ("torch.optim.SparseAdam", "SparseAdam does not support dense gradients"),
        ("torch.optim.AdamW:speed=1", "unexpected keyword argument 'speed'"),
    ],
)
def test_it_is_refused_in_its_own_words(choice: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        probe("it", choice, "cpu", torch.float64)


def test_all_that_cannot_run_are_refused_at_once_and_the_rest_runs() -> None:
    names = ["sgd", "torch.optim.SparseAdam", "adam", f"{HERE}.Wrapper"]
    with pytest.raises(RefusedError) as caught:
        run(capacity, Grid(names, **SMALL))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "3 optimizers cannot be used" in lines[0]
    summary = run(capacity, Grid(names, **SMALL), skip_failing=True)
    assert [fit.optimizer for fit in summary.fits] == ["sgd"]
    assert set(summary.refused) == set(names[1:])
    assert summary.command.endswith("--optimizers sgd")
    with pytest.raises(RefusedError, match="'adam' is unknown"):
        run(capacity, Grid(["adam"], **SMALL), skip_failing=True)


def test_every_refusal_names_its_optimizer() -> None:
    assert str(RefusedError({"mine": "its step failed: no"})) == (
        "optimizer 'mine' cannot be used: its step failed: no"
    )
    assert str(RefusedError({"adam": "optimizer 'adam' is unknown"})) == (
        "optimizer 'adam' is unknown"
    )


def test_lrs_that_cannot_be_guessed_are_refused_with_the_rest() -> None:
    grid = TrainingGrid(
        ["sgd", f"{HERE}.Late", f"{HERE}.Uphill", "adam"], dims=(8,), seeds=1, steps=2
    )
    with pytest.raises(RefusedError, match=r"2 optimizers(.|\n)*Uphill(.|\n)*logit"):
        run(dynamics, grid)


def test_a_late_failure_marks_its_cells_and_the_study_goes_on(tmp_path: Path) -> None:
    grid = Grid(["sgd", f"{HERE}.TooLarge", "muon"], **SMALL)
    summary = run(capacity, grid, tmp_path)
    assert [fit.optimizer for fit in summary.fits] == ["sgd", "muon"]
    (failure,) = summary.failed
    assert (failure.dim, failure.cells) == (16, 2)
    assert "eigh did not converge" in failure.reason
    assert (tmp_path / "cells.jsonl").read_text().count('"failed"') == 2
    assert run(capacity, grid, tmp_path, resume=True) == summary
    with pytest.raises(InputError, match=r"every optimizer failed: .*eigh did not converge"):
        run(capacity, Grid([f"{HERE}.TooLarge"], **SMALL))


def test_a_run_that_fails_counts_zero_from_then_on(tmp_path: Path) -> None:
    grid = TrainingGrid([f"{HERE}.Tiring"], dims=(8,), seeds=1, steps=16, schedules=("constant",))
    summary = run(dynamics, grid, tmp_path)
    (point,) = summary.fits[0].points
    assert [0] not in point.recovered[1:14]
    assert point.recovered[14:] == [[0], [0]]
    assert "I am tired" in summary.failed[0].reason


@pytest.fixture
def generators() -> Iterator[list[float]]:
    """What the three generators give next, if nothing touches them."""
    import random

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = [random.random(), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    yield expected
    assert [random.random(), np.random.rand(), float(torch.rand(()))] == expected  # noqa: NPY002


@pytest.mark.usefixtures("generators")
def test_random_optimizers_repeat_and_leave_the_callers_numbers_alone() -> None:
    grid = Grid([f"{HERE}.Random", f"{HERE}.Plain"], **SMALL)
    first = run(capacity, grid)
    assert run(capacity, grid) == first
    alone = run(capacity, Grid([f"{HERE}.Random"], **SMALL))
    assert alone.fits[0] == first.fits[0]  # whatever else is measured
