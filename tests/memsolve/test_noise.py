"""The noise scale of the gradient: exact against its definition, estimated against the exact."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, Batch, InputError
from memsolve.objective import Objective
from memsolve.optimizers.registry import builder
from memsolve.study.critical_batch import noise
from memsolve.study.critical_batch.noise import NoiseScales, noise_scales, two_batch_noise_scale
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


def by_definition(memory: AssociativeMemory, weight: Tensor) -> float:
    """From the gradient of every single item: the trace of their covariance as a sum of squares."""
    one = torch.ones(1, dtype=torch.float64)
    gradients = torch.stack(
        [
            memory.gradient(weight, Batch(torch.tensor([item]), one))
            for item in range(memory.num_items)
        ]
    )
    shares = memory.frequencies[:, None, None]
    mean = (shares * gradients).sum(0)
    return float((shares * (gradients - mean) ** 2).sum() / (mean**2).sum())


@pytest.mark.parametrize("name", WEIGHTS)
def test_it_is_the_trace_of_the_covariance_over_the_squared_mean(name: str) -> None:
    expected = by_definition(MEMORY, WEIGHTS[name])
    assert noise_scale(MEMORY, WEIGHTS[name]) == pytest.approx(expected, rel=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.floats(1.1, 4), st.floats(0, 20), st.integers(0, 9))
def test_it_is_that_ratio_for_any_memory_and_weight(
    num_items: int, alpha: float, scale: float, seed: int
) -> None:
    memory = AssociativeMemory(num_items, 3, alpha, seed=seed)
    weight = random(memory, scale, seed)
    expected = by_definition(memory, weight)
    assert noise_scale(memory, weight) == pytest.approx(expected, rel=1e-8)


def test_many_items_are_evaluated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = noise_scale(MEMORY, WEIGHTS["trained"])
    monkeypatch.setattr(noise, "ITEMS_AT_ONCE", 7)
    assert noise_scale(MEMORY, WEIGHTS["trained"]) == pytest.approx(at_once, rel=1e-12)


@pytest.mark.parametrize("name", WEIGHTS)
def test_two_batches_estimate_it_within_their_interval(name: str) -> None:
    exact = noise_scale(MEMORY, WEIGHTS[name])
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
    expected = [signal * (1 + noise_scale(MEMORY, weight) / size) for size in (small, big)]
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
