"""The memory against dense definitions in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, Batch, InputError
from memsolve.frequencies import power_law


@pytest.fixture
def memory() -> AssociativeMemory:
    return AssociativeMemory(40, 6, 1.5, seed=3)


def dense_loss(memory: AssociativeMemory, weight: Tensor, batch: Batch) -> Tensor:
    logits = memory.inputs[batch.items] @ weight.T @ memory.outputs.T
    losses = torch.nn.functional.cross_entropy(logits, batch.items, reduction="none")
    return (batch.weights * losses).sum()


def random_weight(memory: AssociativeMemory, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return scale * torch.randn(memory.dim, memory.dim, generator=generator, dtype=torch.float64)


def batches(memory: AssociativeMemory) -> list[Batch]:
    return [memory.population(), memory.sample(30, torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_loss_and_gradient_are_those_of_the_dense_logits(
    memory: AssociativeMemory, scale: float
) -> None:
    weight = random_weight(memory, scale).requires_grad_()
    for batch in batches(memory):
        loss = dense_loss(memory, weight, batch)
        (gradient,) = torch.autograd.grad(loss, weight)
        torch.testing.assert_close(memory.loss(weight, batch), loss)
        torch.testing.assert_close(memory.gradient(weight.detach(), batch), gradient)


def test_gradient_at_zero_is_the_limit_of_the_general_one(memory: AssociativeMemory) -> None:
    batch = memory.population()
    zero = torch.zeros(memory.dim, memory.dim, dtype=torch.float64)
    near = memory.gradient(zero + 1e-9, batch)
    torch.testing.assert_close(memory.gradient_at_zero(batch), near, rtol=0, atol=1e-9)
    torch.testing.assert_close(memory.gradient_at_zero(batch), memory.gradient(zero, batch))


def test_curvature_is_the_hessian_at_zero(memory: AssociativeMemory) -> None:
    direction = random_weight(memory)
    zero = torch.zeros_like(direction)
    for batch in batches(memory):
        product = torch.autograd.functional.hvp(
            lambda weight, batch=batch: dense_loss(memory, weight, batch), zero, direction
        )[1]
        outputs, inputs = memory.curvature(batch)
        torch.testing.assert_close(outputs @ direction @ inputs, product)


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_hvp_is_that_of_the_dense_logits(memory: AssociativeMemory, scale: float) -> None:
    weight, direction = random_weight(memory, scale), random_weight(memory).T.contiguous()
    for batch in batches(memory):
        _, product = torch.autograd.functional.hvp(
            lambda w, batch=batch: dense_loss(memory, w, batch), weight, direction
        )
        torch.testing.assert_close(memory.hvp(weight, direction, batch), product)


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_curvature_at_a_weight_counts_items_by_their_error(
    memory: AssociativeMemory, scale: float
) -> None:
    weight = random_weight(memory, scale)
    for batch in batches(memory):
        inputs = memory.inputs[batch.items]
        logits = inputs @ weight.T @ memory.outputs.T
        errors = 1 - logits.softmax(1).gather(1, batch.items[:, None])
        outputs, moment = memory.curvature(batch, weight)
        torch.testing.assert_close(moment, inputs.T @ (errors * batch.weights[:, None] * inputs))
        assert torch.equal(outputs, memory.output_covariance)


def test_a_batch_holds_each_drawn_item_once_with_its_share(memory: AssociativeMemory) -> None:
    batch = memory.sample(1000, torch.Generator().manual_seed(1))
    assert torch.equal(batch.items, batch.items.unique())
    counts = batch.weights * 1000
    torch.testing.assert_close(counts, counts.round())
    assert counts.sum() == pytest.approx(1000)
    assert counts.min() >= 1


def test_large_batches_approach_the_population(memory: AssociativeMemory) -> None:
    batch = memory.sample(10**9, torch.Generator().manual_seed(2))
    population = memory.population()
    assert torch.equal(batch.items, population.items)
    torch.testing.assert_close(batch.weights, population.weights, rtol=0.01, atol=0)


def test_same_seed_same_numbers(memory: AssociativeMemory) -> None:
    again = AssociativeMemory(40, 6, 1.5, seed=3)
    other = AssociativeMemory(40, 6, 1.5, seed=4)
    assert torch.equal(memory.inputs, again.inputs)
    assert not torch.equal(memory.inputs, other.inputs)
    draws = [memory.sample(50, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(draws[0].items, draws[1].items)
    assert torch.equal(draws[0].weights, draws[1].weights)


def test_embeddings_have_unit_norm_on_average() -> None:
    memory = AssociativeMemory(4000, 32, 1.5, seed=0)
    for embeddings in (memory.inputs, memory.outputs):
        assert embeddings.square().sum(1).mean() == pytest.approx(1, rel=0.02)
    overlap = (memory.inputs * memory.outputs).sum(1)
    assert overlap.std() == pytest.approx(32**-0.5, rel=0.05)


@given(st.integers(1, 500), st.floats(1.01, 4))
def test_frequencies_follow_the_power_law(num_items: int, alpha: float) -> None:
    frequencies = power_law(num_items, alpha)
    assert frequencies.sum() == pytest.approx(1)
    ranks = torch.arange(1, num_items + 1, dtype=torch.float64)
    torch.testing.assert_close(frequencies / frequencies[0], ranks**-alpha)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 1.5), "num_items is 0"),
        ((10, 0, 1.5), "dim is 0"),
        ((10, 2.5, 1.5), "dim is 2.5"),
        ((10, 4, 1.0), "alpha is 1.0; expected a finite number above 1"),
        ((10, 4, float("nan")), "alpha is nan"),
        ((10**5, 4, 100.0), "underflows"),
    ],
)
def test_bad_sizes_are_refused(arguments: tuple[int, int, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AssociativeMemory(*arguments, seed=0)


def test_bad_calls_are_refused(memory: AssociativeMemory) -> None:
    good = memory.population()
    zero = torch.zeros(6, 6, dtype=torch.float64)
    with pytest.raises(InputError, match=r"weight has shape \(5, 6\)"):
        memory.gradient(zero[:5], good)
    with pytest.raises(InputError, match=r"weight is torch\.float32"):
        memory.loss(zero.float(), good)
    with pytest.raises(InputError, match=r"direction has shape \(6, 5\)"):
        memory.hvp(zero, zero[:, :5], good)
    with pytest.raises(InputError, match=r"weight has shape \(6, 5\)"):
        memory.curvature(good, zero[:, :5])
    with pytest.raises(InputError, match="NaN or infinity"):
        memory.recall(zero / 0)
    with pytest.raises(InputError, match="batch_size is 0"):
        memory.sample(0)
    with pytest.raises(InputError, match="expected the same"):
        memory.gradient(zero, Batch(good.items, good.weights[1:]))
    outside = torch.tensor([0, 40])
    with pytest.raises(InputError, match=r"from 0 to 40; expected \[0, 40\)"):
        memory.gradient(zero, Batch(outside, good.weights[:2]))
    with pytest.raises(InputError, match=r"items runs from -1 to 3"):
        memory.recall(zero, torch.tensor([3, -1]))
    with pytest.raises(InputError, match=r"batch.items runs from 999"):
        memory.curvature(Batch(torch.tensor([999]), good.weights[:1]))
    with pytest.raises(InputError, match=r"batch.weights holds NaN"):
        memory.curvature(Batch(good.items, good.weights / 0 * 0))
    with pytest.raises(InputError, match="at most"):
        memory.sample(10**20)
    with pytest.raises(InputError, match="choose fewer"):
        AssociativeMemory(10**13, 10, 1.5, seed=0)
    with pytest.raises(InputError, match="float16"):
        AssociativeMemory(4, 2, 1.5, seed=0, dtype=torch.float16)
