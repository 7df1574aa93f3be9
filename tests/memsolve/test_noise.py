"""The noise scales of the gradient: exact against the definition, estimated against the exact."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, Batch, InputError, problem
from memsolve.objective import Objective
from memsolve.optimizers.registry import builder
from memsolve.study.critical_batch.noise import (
    NoiseScales,
    noise_scales,
    two_batch_noise_scale,
)
from memsolve.training import Trainer


def random(memory: AssociativeMemory, scale: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(memory.dim, memory.dim, generator=generator, dtype=torch.float64)


def trained(memory: AssociativeMemory) -> Tensor:
    objective = Objective(memory, memory.population())
    trainer = Trainer(objective, builder("sgd:lr=20"))
    for _ in range(30):
        trainer.step(objective.batch)
    return trainer.weight.detach()


MEMORY = AssociativeMemory(200, 8, 1.5, seed=0)
WEIGHTS = {
    "zero": torch.zeros(8, 8, dtype=torch.float64),
    "small": random(MEMORY, 0.1),
    "large": random(MEMORY, 5.0),
    "trained": trained(MEMORY),
}


def every_gradient(memory: AssociativeMemory, weight: Tensor) -> Tensor:
    """(N, d, d) the gradient of every single item."""
    one = torch.ones(1, dtype=torch.float64)
    items = torch.arange(memory.num_items).split(1)
    return torch.stack([memory.gradient(weight, Batch(item, one)) for item in items])


def by_definition(memory: AssociativeMemory, gradients: Tensor) -> NoiseScales:
    """From the noise of every item: its mean square, and roots of its second moments."""
    shares = memory.frequencies[:, None, None]
    mean = (shares * gradients).sum(0)
    noise = gradients - mean
    traces = [
        float(torch.linalg.svdvals((shares * squares).sum(0)).sqrt().sum())
        for squares in (noise @ noise.mT, noise.mT @ noise)
    ]
    return NoiseScales(
        float((shares * noise**2).sum() / (mean**2).sum()),
        (min(traces) / float(torch.linalg.svdvals(mean).sum())) ** 2,
    )


@pytest.mark.parametrize("name", WEIGHTS)
def test_they_are_ratios_of_the_norms_of_noise_and_mean(name: str) -> None:
    expected = by_definition(MEMORY, every_gradient(MEMORY, WEIGHTS[name]))
    assert noise_scales(MEMORY, WEIGHTS[name]) == pytest.approx(expected, rel=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 30), st.floats(1.1, 4), st.floats(0, 20), st.integers(0, 9))
def test_they_are_those_ratios_for_any_memory_and_weight(
    num_items: int, alpha: float, scale: float, seed: int
) -> None:
    memory = AssociativeMemory(num_items, 3, alpha, seed=seed)
    weight = random(memory, scale, seed)
    expected = by_definition(memory, every_gradient(memory, weight))
    scales = noise_scales(memory, weight)
    assert scales.euclidean == pytest.approx(expected.euclidean, rel=1e-8)
    assert scales.nuclear == pytest.approx(expected.nuclear, rel=1e-4)  # roots of rounding


def test_the_default_weight_is_zero() -> None:
    at_zero = noise_scales(MEMORY, WEIGHTS["zero"])
    assert noise_scales(MEMORY) == pytest.approx(at_zero, rel=1e-10)


def test_items_that_are_left_out_have_no_gradient() -> None:
    items = torch.tensor([1, 5, *range(20, 200)])
    gradients = torch.zeros(200, 8, 8, dtype=torch.float64)
    gradients[items] = every_gradient(MEMORY, WEIGHTS["zero"])[items]
    expected = by_definition(MEMORY, gradients)
    assert noise_scales(MEMORY, items=items) == pytest.approx(expected, rel=1e-7)


def test_without_items_there_is_no_noise_scale() -> None:
    with pytest.raises(InputError, match="items is empty; expected at least one"):
        noise_scales(MEMORY, items=torch.arange(0))


def rotation(dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turned: Tensor = torch.linalg.qr(
        torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    )[0]
    return turned


def test_rotations_and_scales_of_the_embeddings_change_nothing() -> None:
    turned = AssociativeMemory(200, 8, 1.5, seed=0)
    turned.inputs = 3 * turned.inputs @ rotation(8, 1)
    turned.outputs = 0.2 * turned.outputs @ rotation(8, 2)
    assert noise_scales(turned) == pytest.approx(noise_scales(MEMORY), rel=1e-7)


@pytest.mark.parametrize(("dim", "items"), [(1, 40), (5, 1)])
def test_both_are_one_where_gradients_have_one_direction(dim: int, items: int) -> None:
    memory = AssociativeMemory(40, dim, 1.5, seed=3)
    euclidean, nuclear = noise_scales(memory, items=torch.arange(items))
    assert nuclear == pytest.approx(euclidean, rel=1e-6)
    if items == 1:
        share = float(memory.frequencies[0])
        assert euclidean == pytest.approx((1 - share) / share)


@pytest.mark.parametrize("name", ["zero", "trained"])
def test_the_noise_of_batches_stays_just_below_the_bound(name: str) -> None:
    """Its expected nuclear norm falls as the root of the batch size; 8 / (3 pi) of isotropic."""
    weight, batch_size = WEIGHTS[name], 4096
    mean = MEMORY.gradient_moments(weight).mean
    bound = noise_scales(MEMORY, weight).nuclear ** 0.5 * float(torch.linalg.svdvals(mean).sum())
    generator = torch.Generator().manual_seed(0)
    norms = [
        float(torch.linalg.svdvals(MEMORY.gradient(weight, batch) - mean).sum())
        for batch in (MEMORY.sample(batch_size, generator) for _ in range(40))
    ]
    assert 0.7 * bound < np.mean(norms) * batch_size**0.5 < bound


def test_many_items_are_evaluated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = noise_scales(MEMORY, WEIGHTS["trained"])
    monkeypatch.setattr(problem, "MOMENT_ROWS", 7)
    assert noise_scales(MEMORY, WEIGHTS["trained"]) == pytest.approx(at_once, rel=1e-9)


@pytest.mark.parametrize("name", WEIGHTS)
def test_two_batches_estimate_it_within_their_interval(name: str) -> None:
    exact = noise_scales(MEMORY, WEIGHTS[name]).euclidean
    covered = 0
    for seed in range(8):
        estimate = two_batch_noise_scale(
            MEMORY,
            WEIGHTS[name],
            small=8,
            big=1 << 11,
            pairs=32,
            generator=torch.Generator().manual_seed(seed),
        )
        assert estimate.bar is not None
        _, low, high = estimate.bar
        assert 0 < low < high < 4 * exact  # not so wide that it covers anything
        covered += low <= exact <= high
    assert covered >= 6  # 7.6 expected


def test_both_parts_of_the_estimate_are_unbiased() -> None:
    weight, (small, big) = WEIGHTS["trained"], (4, 64)
    mean = MEMORY.gradient(weight, MEMORY.population())
    signal = float(mean.square().sum())
    scale = noise_scales(MEMORY, weight).euclidean
    expected = [signal * (1 + scale / size) for size in (small, big)]
    generator = torch.Generator().manual_seed(0)
    for size, square in zip((small, big), expected, strict=True):
        squares = [
            float(MEMORY.gradient(weight, MEMORY.sample(size, generator)).square().sum())
            for _ in range(200)
        ]
        error = np.std(squares) / np.sqrt(len(squares))
        assert abs(np.mean(squares) - square) < 3 * error


def test_sizes_that_do_not_increase_are_refused() -> None:
    with pytest.raises(InputError, match="small is 8 and big 8; expected small < big"):
        two_batch_noise_scale(MEMORY, WEIGHTS["zero"], small=8, big=8, pairs=2)
