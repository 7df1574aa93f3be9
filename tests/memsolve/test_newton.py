"""Newton's step against the explicit Hessian."""

import pytest
import torch

from memsolve import AssociativeMemory, InputError
from memsolve.optim import Newton


def newton_step(memory: AssociativeMemory, damping: float) -> torch.Tensor:
    batch = memory.population()
    weight = torch.nn.Parameter(torch.zeros(memory.dim, memory.dim, dtype=torch.float64))
    weight.grad = memory.gradient(weight.detach(), batch)
    Newton([weight], lambda: memory.curvature(batch), damping=damping).step()
    return weight.detach()


def test_the_undamped_step_solves_with_the_hessian() -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    batch = memory.population()
    zero = torch.zeros(5, 5, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda w: memory.loss(w, batch), zero)
    gradient = memory.gradient(zero, batch)
    step = torch.linalg.solve(hessian.reshape(25, 25), gradient.reshape(25))
    torch.testing.assert_close(newton_step(memory, 0.0), -step.reshape(5, 5))


def test_damping_is_relative_and_bounds_a_singular_problem() -> None:
    memory = AssociativeMemory(60, 16, 1.3, seed=1)
    few = memory.sample(4, torch.Generator().manual_seed(0))
    weight = torch.nn.Parameter(torch.zeros(16, 16, dtype=torch.float64))
    weight.grad = memory.gradient(weight.detach(), few)
    Newton([weight], lambda: memory.curvature(few)).step()
    assert memory.recall(weight.detach(), few.items).recovered.all()


def test_heavy_damping_is_gradient_descent_in_the_outputs_metric() -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    batch = memory.population()
    gradient = memory.gradient(torch.zeros(5, 5, dtype=torch.float64), batch)
    outputs, inputs = memory.curvature(batch)
    limit = torch.linalg.solve(outputs, gradient) / (1e9 * inputs.diagonal().mean())
    torch.testing.assert_close(newton_step(memory, 1e9), -limit, rtol=1e-6, atol=0)


def test_closure_and_missing_gradients() -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    batch = memory.population()
    weight = torch.nn.Parameter(torch.zeros(5, 5, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.ones(5, 5, dtype=torch.float64))
    optimizer = Newton([weight, unused], lambda: memory.curvature(batch))

    def closure() -> float:
        optimizer.zero_grad()
        loss = memory.loss(weight, batch)
        loss.backward()
        return float(loss.detach())

    before = optimizer.step(closure)
    assert closure() < before
    assert torch.equal(unused.detach(), torch.ones(5, 5, dtype=torch.float64))


@pytest.mark.parametrize("arguments", [{"lr": 0.0}, {"damping": -1.0}, {"damping": float("nan")}])
def test_bad_settings_are_told(arguments: dict[str, float]) -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(InputError, match=f"{next(iter(arguments))} is"):
        Newton([weight], lambda: (weight, weight), **arguments)  # type: ignore[arg-type, return-value]
