"""Newton's step against the explicit Hessian."""

import copy
import pickle
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, Batch, InputError
from memsolve.objective import Objective
from memsolve.optim import Newton
from memsolve.optim.conjugate_gradients import conjugate_gradients


def newton_step(memory: AssociativeMemory, damping: float) -> torch.Tensor:
    batch = memory.population()
    weight = torch.nn.Parameter(torch.zeros(memory.dim, memory.dim, dtype=torch.float64))
    weight.grad = memory.gradient(weight.detach(), batch)
    Newton([weight], Objective(memory, batch), damping=damping).step()
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
    Newton([weight], Objective(memory, few)).step()
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
    optimizer = Newton([weight, unused], Objective(memory, batch))

    def closure() -> float:
        optimizer.zero_grad()
        loss = memory.loss(weight, batch)
        loss.backward()
        return float(loss.detach())

    before = optimizer.step(closure)
    assert closure() < before
    assert torch.equal(unused.detach(), torch.ones(5, 5, dtype=torch.float64))


def random_weight(dim: int, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return scale * torch.randn(dim, dim, generator=generator, dtype=torch.float64)


def stepped(objective: Objective, weight: Tensor, **arguments: Any) -> Tensor:
    """`weight` after one step."""
    param = torch.nn.Parameter(weight.clone())
    param.grad = objective.memory.gradient(weight, objective.batch)
    Newton([param], objective, **arguments).step()
    return param.detach()


def minimum(objective: Objective) -> Tensor:
    """Where a step cannot lower the loss any more, and says so."""
    weight = torch.zeros(objective.memory.dim, objective.memory.dim, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        while not caught:
            weight = stepped(objective, weight, damping=0.0, tolerance=1e-8)
    return weight


class WithoutPasses(Objective):
    """An objective that refuses a pass over all logits."""

    def loss(self, weight: Tensor) -> Tensor:
        raise AssertionError

    def hvp(self, weight: Tensor, direction: Tensor) -> Tensor:
        raise AssertionError


def test_the_step_from_zero_is_the_closed_form_to_the_bit_without_a_pass() -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    batch = memory.population()
    zero = torch.zeros(5, 5, dtype=torch.float64)
    outputs, inputs = memory.curvature(batch)
    damped = inputs + 1e-6 * inputs.diagonal().mean() * torch.eye(5, dtype=torch.float64)
    half = torch.linalg.solve(outputs, memory.gradient(zero, batch))
    step = torch.linalg.solve(damped, half, left=False)
    for lr in (1.0, 7.0):
        assert torch.equal(stepped(WithoutPasses(memory, batch), zero, lr=lr), zero - lr * step)


@pytest.mark.parametrize("damping", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_solver_at_zero_reaches_the_closed_form(damping: float, preconditioned: bool) -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    batch = memory.population()
    outputs, inputs = memory.curvature(batch)
    shift = damping * inputs.diagonal().mean()
    damped = inputs + shift * torch.eye(5, dtype=torch.float64)
    zero = torch.zeros(5, 5, dtype=torch.float64)
    products = 0

    def operator(direction: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return memory.hvp(zero, direction, batch) + shift * outputs @ direction

    def inverse(matrix: Tensor) -> Tensor:
        return outputs.inverse() @ matrix @ damped.inverse() if preconditioned else matrix

    gradient = memory.gradient(zero, batch)
    step = conjugate_gradients(operator, inverse, gradient, tolerance=1e-10, max_iterations=99)
    torch.testing.assert_close(newton_step(memory, damping), -step, rtol=1e-7, atol=1e-7)
    assert products == 1 if preconditioned else 10 < products < 99


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_a_step_from_anywhere_solves_with_the_damped_hessian(damping: float) -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    batch = memory.sample(2000, torch.Generator().manual_seed(0))
    weight = random_weight(5, 2.0)
    hessian = torch.autograd.functional.hessian(lambda w: memory.loss(w, batch), weight)
    outputs, inputs = memory.curvature(batch)
    # row-major: C D I is kron(C, I)
    shift = damping * inputs.diagonal().mean() * torch.kron(outputs, torch.eye(5))
    step = torch.linalg.solve(
        hessian.reshape(25, 25) + shift, memory.gradient(weight, batch).reshape(25)
    )
    moved = weight - stepped(
        Objective(memory, batch), weight, lr=1e-3, damping=damping, tolerance=1e-10
    )
    torch.testing.assert_close(moved, 1e-3 * step.reshape(5, 5), rtol=1e-7, atol=1e-10)


def test_near_the_minimum_a_step_squares_the_error() -> None:
    memory = AssociativeMemory(200, 4, 1.5, seed=1)
    objective = Objective(memory, memory.population())
    best = minimum(objective)
    offset = random_weight(4, 1.0)
    errors = [
        (stepped(objective, best + size * offset, damping=0.0, tolerance=1e-9) - best).norm()
        for size in (0.2, 0.02, 0.002)
    ]
    assert errors[0] < 0.2 * offset.norm()
    for before, after in pairwise(errors):
        assert 50 < before / after < 200


@pytest.mark.parametrize(("alpha", "dim"), [(1.5, 32), (2.0, 24), (1.5, 40)])
def test_every_step_lowers_the_exact_loss(alpha: float, dim: int) -> None:
    memory = AssociativeMemory(16 * dim, dim, alpha, seed=0)
    objective = Objective(memory, memory.population())
    weight = torch.zeros(dim, dim, dtype=torch.float64)
    losses = [objective.loss(weight)]
    for _ in range(7):
        weight = stepped(objective, weight)
        losses.append(objective.loss(weight))
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 0.6 * losses[1]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 30),
    st.floats(1.1, 3),
    st.integers(0, 50),
    st.floats(0.01, 1000),
    st.sampled_from([1e-6, 1e-2, 10.0]),
    st.sampled_from([0.1, 1.0, 8.0]),
)
def test_the_loss_never_rises(
    dim: int, more: int, alpha: float, drawn: int, scale: float, damping: float, lr: float
) -> None:
    memory = AssociativeMemory(dim + more, dim, alpha, seed=more)
    generator = torch.Generator().manual_seed(more)
    batch = memory.sample(drawn, generator) if drawn else memory.population()
    objective, weight = Objective(memory, batch), random_weight(dim, scale)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        after = stepped(objective, weight, damping=damping, lr=lr)
    if caught:
        assert torch.equal(after, weight)
    else:
        assert objective.loss(after) < objective.loss(weight)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(20)), st.sampled_from([0.0, 3.0]))
def test_names_of_items_do_not_matter(order: list[int], scale: float) -> None:
    memory, renamed = (AssociativeMemory(20, 4, 1.5, seed=2) for _ in range(2))
    renamed.inputs, renamed.outputs = memory.inputs[order], memory.outputs[order]
    batch, weight = memory.population(), random_weight(4, scale)
    steps = [
        stepped(Objective(memory, batch), weight),
        stepped(Objective(renamed, Batch(batch.items, batch.weights[order])), weight),
    ]
    torch.testing.assert_close(*steps, rtol=1e-7, atol=1e-9)


def test_a_step_is_on_the_current_batch() -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    draws = [memory.sample(200, torch.Generator().manual_seed(seed)) for seed in range(2)]
    weight = random_weight(5, 1.0)
    param, objective = torch.nn.Parameter(weight.clone()), Objective(memory, draws[0])
    optimizer = Newton([param], objective)
    objective.batch = draws[1]
    param.grad = memory.gradient(weight, draws[1])
    optimizer.step()
    assert torch.equal(param.detach(), stepped(Objective(memory, draws[1]), weight))


def test_a_batch_stored_with_room_to_spare_keeps_falling() -> None:
    memory = AssociativeMemory(60, 16, 1.3, seed=1)
    objective = Objective(memory, memory.sample(6, torch.Generator().manual_seed(0)))
    weight = torch.zeros(16, 16, dtype=torch.float64)
    losses = []
    for _ in range(12):
        weight = stepped(objective, weight)
        losses.append(float(objective.loss(weight)))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-3 * losses[0]


def test_a_step_that_cannot_lower_the_loss_says_so_and_is_not_taken() -> None:
    memory = AssociativeMemory(60, 5, 1.3, seed=1)
    objective = Objective(memory, memory.population())
    weight = random_weight(5, 1.0)
    param = torch.nn.Parameter(weight.clone())
    optimizer = Newton([param], objective)
    for useless in (-memory.gradient(weight, objective.batch), torch.zeros_like(weight)):
        param.grad = useless
        with pytest.warns(RuntimeWarning, match="cannot lower the loss"):
            optimizer.step()
        assert torch.equal(param.detach(), weight)
    param.grad = weight / 0
    with pytest.raises(InputError, match="NaN or infinity"):
        optimizer.step()


BAD = [
    {"lr": 0.0},
    {"damping": -1.0},
    {"damping": float("nan")},
    {"tolerance": 0.0},
    {"tolerance": 1.0},
    {"max_iterations": 0},
]


@pytest.mark.parametrize("arguments", BAD)
def test_bad_settings_are_refused(arguments: dict[str, Any]) -> None:
    memory = AssociativeMemory(4, 2, 1.5, seed=0)
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(InputError, match=f"{next(iter(arguments))} is"):
        Newton([weight], Objective(memory, memory.population()), **arguments)


def small_problem(seed: int = 0) -> tuple[torch.nn.Parameter, Objective]:
    memory = AssociativeMemory(60, 5, 1.3, seed=seed)
    weight = torch.nn.Parameter(torch.zeros(5, 5, dtype=torch.float64))
    weight.grad = memory.gradient(weight.detach(), memory.population())
    return weight, Objective(memory, memory.population())


def by_pickle(optimizer: Newton) -> Newton:
    copied: Newton = pickle.loads(pickle.dumps(optimizer))
    return copied


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle])
def test_a_copy_keeps_its_objective(duplicate: Callable[[Newton], Newton]) -> None:
    weight, objective = small_problem()
    optimizer = Newton([weight], objective)
    other = duplicate(optimizer)
    (copied,) = other.param_groups[0]["params"]
    copied.grad = weight.grad
    other.step()
    assert not weight.any()
    optimizer.step()
    assert torch.equal(copied, weight)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_moves_no_weight(start: float, bad: float) -> None:
    (first, objective), (second, _) = small_problem(), small_problem()
    second.data.fill_(start)
    second.grad = torch.full_like(second, bad)
    optimizer = Newton([("first", first), ("second", second)], objective)
    with pytest.raises(InputError, match="gradient of parameter 'second' contains NaN or infinity"):
        optimizer.step()
    assert not first.any()
    assert (second == start).all()


@pytest.mark.parametrize("arguments", BAD)
def test_bad_settings_of_a_group_are_always_refused(arguments: dict[str, Any]) -> None:
    weight, objective = small_problem()
    optimizer = Newton([weight], objective)
    message = f"{next(iter(arguments))} is"
    with pytest.raises(InputError, match=message):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(5, 5))], **arguments})
    assert len(optimizer.param_groups) == 1
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0].update(arguments)
    with pytest.raises(InputError, match=message):
        optimizer.load_state_dict(state)
    optimizer.param_groups[0].update(arguments)
    with pytest.raises(InputError, match=message):
        optimizer.step()
    assert not weight.any()
