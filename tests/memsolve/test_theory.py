"""The laws' exponents, and the distinct items of a batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gamma, zeta

from memsolve import AssociativeMemory, theory
from memsolve.frequencies import power_law
from memsolve.objective import Objective
from memsolve.optimizers.registry import resolve

ALPHAS = st.floats(1.05, 3)


def test_exponents_at_the_papers_alpha() -> None:
    assert theory.exponent("muon", "recovered", 1.5) == pytest.approx(4 / 3)
    assert theory.exponent("newton", "recovered", 1.5) == pytest.approx(4 / 3)
    assert theory.exponent("sgd", "recovered", 1.5) == pytest.approx(1 / 3)
    assert theory.exponent("muon", "saturation_batch_size", 1.5) == pytest.approx(2)
    assert theory.exponent("sgd", "saturation_batch_size", 1.5) == pytest.approx(1 / 2)
    assert theory.law(None, "recovered", 1.5) is None
    assert str(theory.law("muon", "recovered", 1.5)) == "1.33 published"
    assert str(theory.law("newton", "saturation_batch_size", 1.5)) == "2.00 derived"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("sgd", "sgd"),
        ("muon", "muon"),
        ("muon:backend=reference", "muon"),
        ("newton", "newton"),
        ("torch.optim.SGD:lr=3", "sgd"),
        ("memsolve.optim.Muon", "muon"),
        ("memsolve.optim.SpectralPower:power=0", "muon"),
        ("memsolve.optim.SpectralPower:power=1", "sgd"),
        ("memsolve.optim.SpectralPower:power=0.5", None),
        ("memsolve.optim.RandomSpectrum", None),
        ("torch.optim.Muon", None),  # five steps, which do not reach the polar factor
        ("torch.optim.AdamW", None),
        ("muon:schedule=muon", None),
        ("muon:relative_damping=0.1", None),
        ("muon:dtype=bfloat16", None),
    ],
)
def test_a_law_belongs_to_what_an_optimizer_is(name: str, method: str | None) -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    memory = AssociativeMemory(4, 2, 1.5, seed=0)
    (build,) = resolve({"muon": name}).values()
    assert theory.method_of(build([weight], Objective(memory, memory.population()))) == method


def test_momentum_and_decay_make_another_method_beyond_the_first_step() -> None:
    weight = [torch.nn.Parameter(torch.zeros(2, 2))]
    heavy, sgd = torch.optim.SGD(weight, momentum=0.9), torch.optim.SGD(weight)
    assert theory.method_of(heavy) == theory.method_of(sgd, steps=9) == "sgd"
    assert theory.method_of(heavy, steps=9) is None
    assert theory.method_of(torch.optim.SGD(weight, maximize=True)) is None


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
def test_many_steps_begin_as_one_and_approach_the_limit(alpha: float) -> None:
    for method in ("sgd", "muon"):
        steps = theory.exponents_by_step(method, alpha, 200)
        assert steps[0] == pytest.approx(theory.exponent(method, "recovered", alpha))
        assert steps == sorted(steps)
        assert steps[-1] == pytest.approx(2)
    muon = theory.exponents_by_step("muon", alpha, 10)
    assert muon == pytest.approx([2 - (1 - 1 / (2 * alpha)) ** step for step in range(1, 11)])


def test_a_subclass_may_do_anything_and_has_no_law() -> None:
    class Mine(torch.optim.SGD):
        pass

    assert theory.method_of(Mine([torch.nn.Parameter(torch.zeros(2, 2))])) is None


@given(ALPHAS, st.sampled_from(["sgd", "muon", "newton"]))
def test_the_batch_bound_and_the_capacity_meet_at_saturation(
    alpha: float, name: theory.Method
) -> None:
    capacity = theory.exponent(name, "recovered", alpha)
    saturation = theory.exponent(name, "saturation_batch_size", alpha)
    assert saturation / alpha == pytest.approx(capacity)


@given(ALPHAS, st.integers(1, 300))
def test_distinct_items_are_between_one_and_the_smaller_of_batch_and_items(
    alpha: float, num_items: int
) -> None:
    sizes = torch.tensor([1.0, 2.0, 10.0, 1e3, 1e9], dtype=torch.float64)
    distinct = theory.expected_distinct_items(power_law(num_items, alpha), sizes)
    assert distinct[0] == pytest.approx(1)
    assert (distinct.diff() >= 0).all()
    assert (distinct <= torch.minimum(sizes, torch.tensor(float(num_items))) * (1 + 1e-9)).all()


def test_distinct_items_of_real_batches() -> None:
    memory = AssociativeMemory(500, 2, 1.4, seed=0)
    expected = theory.expected_distinct_items(
        memory.frequencies, torch.tensor([200.0], dtype=torch.float64)
    )
    generator = torch.Generator().manual_seed(0)
    counts = [len(memory.sample(200, generator).items) for _ in range(400)]
    mean = torch.tensor(counts, dtype=torch.float64)
    assert abs(mean.mean() - expected) < 4 * mean.std() / math.sqrt(len(counts))


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_distinct_items_grow_as_the_power_law_says(alpha: float) -> None:
    batch_size = 1e4
    distinct = theory.expected_distinct_items(
        power_law(10**6, alpha), torch.tensor([batch_size], dtype=torch.float64)
    )
    asymptote = gamma(1 - 1 / alpha) * (batch_size / zeta(alpha)) ** (1 / alpha)
    assert float(distinct) == pytest.approx(asymptote, rel=0.02)


@given(ALPHAS)
def test_the_law_of_spectral_powers_joins_those_of_muon_and_sgd(alpha: float) -> None:
    muon, sgd = (theory.exponent(method, "recovered", alpha) for method in ("muon", "sgd"))
    assert theory.spectral_power_exponent(0.0, alpha) == pytest.approx(muon)
    assert theory.spectral_power_exponent(1.0, alpha) == pytest.approx(sgd)
    kink = 1 / (2 * alpha)
    assert theory.spectral_power_exponent(kink, alpha) == pytest.approx(1)
    assert theory.spectral_power_exponent(1.001 * kink, alpha) == pytest.approx(1, abs=0.01)
    powers = [index / 20 - 0.45 for index in range(30)]
    exponents = [theory.spectral_power_exponent(power, alpha) for power in powers]
    assert exponents == sorted(exponents, reverse=True)


@pytest.mark.parametrize("power", [-0.25, 0.0, 0.25, 0.5, 0.75, 1.0])
def test_expected_counts_of_spectral_powers_approach_their_law(power: float) -> None:
    """Slowly: logarithms and weak rivals decay in d. From 2^5 to 2^13 the slope comes closer."""

    def slope(dim: int) -> float:
        counts = [theory.spectral_power_count(power, 2.0, d, 8 * d) for d in (dim, 2 * dim)]
        return math.log2(counts[1] / counts[0])

    law = theory.spectral_power_exponent(power, 2.0)
    near, far = (abs(slope(dim) - law) for dim in (32, 4096))
    assert far < max(0.05, 0.8 * near)
    assert far < 0.15


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("memsolve.optim.SpectralPower:power=0", "1.25 published"),
        ("memsolve.optim.SpectralPower:power=1", "0.25 derived"),
        ("memsolve.optim.SpectralPower:power=-0.25", "1.25 derived"),
        ("memsolve.optim.SpectralPower:power=0.5", "0.50 derived"),
        ("memsolve.optim.SpectralPower:power=-0.5", "None"),
        ("memsolve.optim.RandomSpectrum", "1.25 derived"),
        ("memsolve.optim.Kaon", "None"),
        ("torch.optim.AdamW", "None"),
    ],
)
def test_the_law_of_a_spectral_optimizer(name: str, law: str) -> None:
    memory = AssociativeMemory(4, 2, 2.0, seed=0)
    weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    (build,) = resolve([name]).values()
    optimizer = build([weight], Objective(memory, memory.population()))
    assert str(theory.spectral_law(optimizer, 2.0)) == law
