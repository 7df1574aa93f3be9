"""The optimizers of the examples, and those of packages beside them, against their papers.

Each paper's equations are written out in numpy, and a few steps in float64 are compared.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memsolve import AssociativeMemory, Batch, InputError, theory
from memsolve.examples.optimizers import KLSOAP, AdaMuon, Dion, MuonH, NewtonMuon, NormalizedSGD
from memsolve.objective import Objective
from memsolve.optim import Muon
from memsolve.optimizers.registry import builder
from memsolve.optimizers.requirements import tiny_objective
from memsolve.training import Trainer

Matrix = NDArray[np.float64]
Paper = Callable[[list[Matrix], Matrix], Iterator[Matrix]]
"""Weights after each step, from the gradients and the first weight."""

STEPS, LR = 5, 0.3

OBJECTIVE = tiny_objective("cpu", torch.float64)


def random_gradients(rows: int = 6, columns: int = 5) -> list[Matrix]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(rows, columns)) for _ in range(STEPS)]


def first_weight(rows: int = 6, columns: int = 5) -> Matrix:
    return np.random.default_rng(1).normal(size=(rows, columns))


def steps_of(
    make: Callable[..., torch.optim.Optimizer], gradients: list[Matrix], first: Matrix
) -> list[Matrix]:
    """Weights of an optimizer after each step."""
    param = torch.nn.Parameter(torch.from_numpy(first.copy()))
    optimizer = make([param])
    weights = []
    for gradient in gradients:
        param.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        weights.append(param.detach().numpy().copy())
    return weights


def polar(matrix: Matrix) -> Matrix:
    """Zero in the directions in which the matrix is zero, as a matrix of signs often is."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left * (values > 1e-9 * values[0]) @ right)


def normalize(matrix: Matrix) -> Matrix:
    return np.asarray(matrix / np.linalg.norm(matrix))


def normalized_sgd(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Cutkosky and Mehta 2020, with beta = 0.9."""
    mean = np.zeros_like(weight)
    for gradient in gradients:
        mean = 0.9 * mean + 0.1 * gradient
        weight = weight - LR * normalize(mean)
        yield weight


def muon_h(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Wen et al. 2026."""
    radius, mean = np.linalg.norm(weight), np.zeros_like(weight)
    for gradient in gradients:
        mean = 0.95 * mean + 0.05 * gradient
        weight = radius * normalize(weight - LR * radius * normalize(polar(mean)))
        yield weight


def ada_muon(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Si, Zhang, Shen 2025, Algorithm 1 without weight decay."""
    mean, second = np.zeros_like(weight), np.zeros_like(weight)
    for gradient in gradients:
        mean = 0.95 * mean + gradient
        update = polar(np.sign(mean))
        second = 0.95 * second + 0.05 * update * update
        scaled = update / (np.sqrt(second) + 1e-8)
        factor = 0.2 * np.sqrt(weight.size) / np.linalg.norm(scaled)
        weight = weight - LR * factor * scaled
        yield weight


def dion(gradients: list[Matrix], weight: Matrix, rank: int) -> Iterator[Matrix]:
    """Ahn et al. 2025, Algorithm 1 with one power iteration, and the factor of its experiments."""
    rows, columns = weight.shape
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(columns, rank, generator=generator, dtype=torch.float64).numpy()
    momentum = np.zeros_like(weight)
    for gradient in gradients:
        buffer = momentum + gradient
        left, _ = np.linalg.qr(buffer @ right)
        product = buffer.T @ left
        momentum = buffer - (1 - 0.95) * left @ product.T
        right = product / (np.linalg.norm(product, axis=0) + 1e-8)
        weight = weight - LR * np.sqrt(rows / columns) * left @ right.T
        yield weight


def kl_soap(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Lin et al. 2025, with the first step and the constants of the authors' code."""
    rows, columns = weight.shape
    first = gradients[0]
    moments = [0.05 * first @ first.T / columns, 0.05 * first.T @ first / rows]
    q_a, q_b = (np.linalg.eigh(moment)[1][:, ::-1] for moment in moments)
    values_a, values_b = np.full(rows, 0.1), np.full(columns, 0.1)
    mean, second = np.zeros_like(weight), np.zeros_like(weight)
    yield weight
    for gradient in gradients[1:]:
        mean = 0.95 * mean + 0.05 * gradient
        second = 0.95 * second + 0.05 * (q_a.T @ gradient @ q_b) ** 2
        weight = weight - LR * q_a @ (q_a.T @ mean @ q_b / (np.sqrt(second) + 1e-8)) @ q_b.T
        yield weight
        inverse_a, inverse_b = q_a / values_a @ q_a.T, q_b / values_b @ q_b.T
        new_a = gradient @ inverse_b @ gradient.T / columns
        new_b = gradient.T @ inverse_a @ gradient / rows
        moments = [0.95 * moments[0] + 0.05 * new_a, 0.95 * moments[1] + 0.05 * new_b]
        values_a = np.maximum(0.95 * values_a + 0.05 * np.diag(q_a.T @ new_a @ q_a), 0.01)
        values_b = np.maximum(0.95 * values_b + 0.05 * np.diag(q_b.T @ new_b @ q_b), 0.01)
        q_a, q_b = np.linalg.qr(moments[0] @ q_a)[0], np.linalg.qr(moments[1] @ q_b)[0]


def soap(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Vyas et al. 2024 (arXiv 2409.11321), with a new basis in every step and no first step."""
    left, right = 0.05 * gradients[0] @ gradients[0].T, 0.05 * gradients[0].T @ gradients[0]
    q_l, q_r = (np.linalg.eigh(moment)[1] for moment in (left, right))
    mean, second = np.zeros_like(weight), np.zeros_like(weight)
    yield weight
    for step, gradient in enumerate(gradients[1:], 1):
        mean = 0.95 * mean + 0.05 * gradient
        second = 0.95 * second + 0.05 * (q_l.T @ gradient @ q_r) ** 2
        debias = np.sqrt(1 - 0.95**step) / (1 - 0.95**step)
        update = q_l.T @ mean @ q_r / (np.sqrt(second) + 1e-8)
        weight = weight - LR * debias * q_l @ update @ q_r.T
        yield weight
        left = 0.95 * left + 0.05 * gradient @ gradient.T
        right = 0.95 * right + 0.05 * gradient.T @ gradient
        order_l = np.argsort(-np.diag(q_l.T @ left @ q_l))
        order_r = np.argsort(-np.diag(q_r.T @ right @ q_r))
        second = second[order_l][:, order_r]
        q_l = np.linalg.qr(left @ q_l[:, order_l])[0]
        q_r = np.linalg.qr(right @ q_r[:, order_r])[0]


def signum(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Bernstein et al. 2018 (arXiv 1802.04434)."""
    mean = np.zeros_like(weight)
    for gradient in gradients:
        mean = 0.9 * mean + 0.1 * gradient
        weight = weight - LR * np.sign(mean)
        yield weight


def quintic(matrix: Matrix) -> Matrix:
    """The five steps of Muon's author."""
    value = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = value @ value.T
        value = 3.4445 * value + (-4.7750 * gram + 2.0315 * gram @ gram) @ value
    return value


def nor_muon(gradients: list[Matrix], weight: Matrix) -> Iterator[Matrix]:
    """Li et al. 2025 (arXiv 2510.05491), Algorithm 1 without weight decay."""
    mean, second = np.zeros_like(weight), np.zeros((len(weight), 1))
    for gradient in gradients:
        mean = 0.95 * mean + 0.05 * gradient
        update = quintic(mean)
        second = 0.95 * second + 0.05 * (update**2).mean(1, keepdims=True)
        scaled = update / (np.sqrt(second) + 1e-8)
        weight = weight - LR * 0.2 * np.sqrt(weight.size) * normalize(scaled)
        yield weight


PAPERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], Paper]] = {
    "NormalizedSGD": (NormalizedSGD, normalized_sgd),
    "MuonH": (MuonH, muon_h),
    "AdaMuon": (AdaMuon, ada_muon),
    "Dion": (partial(Dion, rank_fraction=0.6), partial(dion, rank=3)),
    "Dion at full rank": (Dion, partial(dion, rank=5)),
    "KLSOAP": (KLSOAP, kl_soap),
}


@pytest.mark.parametrize("name", PAPERS)
def test_steps_are_those_of_the_paper(name: str) -> None:
    make, paper = PAPERS[name]
    weights = steps_of(partial(make, lr=LR), random_gradients(), first_weight())
    for weight, expected in zip(weights, paper(random_gradients(), first_weight()), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "settings", "paper", "tolerance"),
    [
        ("SOAP", {"precondition_frequency": 1, "weight_decay": 0.0}, soap, 1e-4),
        ("SignSGD", {}, signum, 1e-9),
        ("NorMuon", {"nesterov": False, "update_scale": "match_rms"}, nor_muon, 5e-2),
    ],
)
def test_steps_of_packages_are_those_of_the_paper(
    name: str, settings: dict[str, Any], paper: Paper, tolerance: float
) -> None:
    """SOAP orthonormalizes in float32, and NorMuon iterates in bfloat16."""
    package = pytest.importorskip("pytorch_optimizer")

    def make(params: Any) -> torch.optim.Optimizer:
        groups = [{"params": params, "use_muon": True}] if name == "NorMuon" else params
        optimizer: torch.optim.Optimizer = getattr(package, name)(groups, lr=LR, **settings)
        return optimizer

    gradients = random_gradients(5, 5) if name == "NorMuon" else random_gradients()
    first = first_weight(5, 5) if name == "NorMuon" else first_weight()
    previous, expected_previous = first, first
    weights = steps_of(make, gradients, first)
    for weight, expected in zip(weights, paper(gradients, first), strict=True):
        moved, expected_move = weight - previous, expected - expected_previous
        error = np.linalg.norm(moved - expected_move)
        assert error <= tolerance * np.linalg.norm(expected_move)
        previous, expected_previous = weight, expected


def test_newton_muon_steps_are_those_of_the_paper() -> None:
    """On batches of a memory, whose inputs are read by hand."""
    memory = AssociativeMemory(30, 6, 1.5, seed=0)
    objective = Objective(memory, memory.population())
    param = torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
    optimizer = NewtonMuon([param], objective, lr=LR)
    inputs = memory.inputs.numpy()
    moment, momentum, weight = np.zeros((6, 6)), np.zeros((6, 6)), np.zeros((6, 6))
    for step in range(STEPS):
        batch = objective.batch = memory.sample(20, torch.Generator().manual_seed(step))
        gradient = memory.gradient(param.detach(), batch)
        param.grad = gradient.clone()
        optimizer.step()
        tokens = inputs[batch.items.numpy()] * np.sqrt(batch.weights.numpy())[:, None]
        moment = 0.95 * moment + 0.05 * tokens.T @ tokens
        ridge = 0.2 * np.trace(moment) / 6
        momentum = 0.95 * momentum + gradient.numpy() @ np.linalg.inv(moment + ridge * np.eye(6))
        weight = weight - LR * polar(momentum)
        np.testing.assert_allclose(param.detach().numpy(), weight, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [NormalizedSGD, MuonH, AdaMuon])
def test_the_scale_of_the_gradients_does_not_matter(
    make: Callable[..., torch.optim.Optimizer],
) -> None:
    gradients = random_gradients()
    one, other = (
        steps_of(make, [scale * gradient for gradient in gradients], first_weight())
        for scale in (1.0, 1e-3)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_normalized_step_has_the_norm_of_the_learning_rate() -> None:
    weights = [
        first_weight(),
        *steps_of(partial(NormalizedSGD, lr=LR), random_gradients(), first_weight()),
    ]
    norms = np.linalg.norm(np.diff(weights, axis=0), axis=(1, 2))
    np.testing.assert_allclose(norms, LR)


def test_a_zero_gradient_takes_no_step() -> None:
    for make in (NormalizedSGD, MuonH, AdaMuon, Dion, KLSOAP):
        (weight,) = steps_of(make, [np.zeros((6, 5))], first_weight())
        np.testing.assert_array_equal(weight, first_weight())


def test_dion_becomes_muon_where_the_power_iteration_converges() -> None:
    """At full rank, on one gradient; with less, the largest singular values alone."""
    left, _, right = np.linalg.svd(first_weight(5, 5))
    gradient = left * [16, 8, 4, 2, 1] @ right
    for fraction, rank in ((1.0, 5), (0.4, 2)):
        make = partial(Dion, lr=LR, rank_fraction=fraction)
        weights = steps_of(make, [gradient] * 60, np.zeros((5, 5)))
        last = weights[-1] - weights[-2]
        if fraction == 1:
            np.testing.assert_allclose(last, -LR * left[:, :rank] @ right[:rank], atol=1e-6)
        assert np.linalg.norm(last) == pytest.approx(LR * np.sqrt(rank))


def test_at_full_rank_the_buffer_of_dion_is_the_momentum_of_muon() -> None:
    param = torch.nn.Parameter(torch.zeros(5, 5, dtype=torch.float64))
    optimizer, mean = Dion([param]), np.zeros((5, 5))
    for gradient in random_gradients(5, 5):
        mean = 0.95 * (mean + gradient)
        param.grad = torch.from_numpy(gradient)
        optimizer.step()
        buffer = optimizer.state[param]["momentum_buffer"].numpy()
        np.testing.assert_allclose(buffer, mean, atol=1e-9)


def test_muon_h_moves_from_zero_onto_its_sphere_and_stays_there() -> None:
    """Its first direction is Muon's, and its norm that of the theory, whatever the lr."""
    name = "memsolve.examples.optimizers.MuonH"
    radius = theory.weight_norm(8, 128)
    memory = AssociativeMemory(128, 8, 1.5, seed=0)
    direction = -torch.from_numpy(polar(memory.gradient_at_zero(memory.population()).numpy()))
    for lr in (0.1, 1.0):
        weights = []
        trainer = Trainer(Objective(memory, memory.population()), builder(name))
        for _ in range(4):
            state = trainer.step(trainer.objective.batch, lr)
            assert state is not None
            assert float(state.weight.norm()) == pytest.approx(radius)
            weights.append(state.weight.clone())
        torch.testing.assert_close(
            weights[0], direction * radius / direction.norm(), rtol=1e-5, atol=1e-7
        )
        assert not torch.equal(weights[1], weights[0])


def test_muon_h_needs_a_radius_for_a_zero_weight_without_a_memory() -> None:
    with pytest.raises(InputError, match="the weight is zero, so it has no sphere"):
        steps_of(MuonH, random_gradients(), np.zeros((6, 5)))
    (weight,) = steps_of(partial(MuonH, radius=2.0), random_gradients()[:1], np.zeros((6, 5)))
    assert np.linalg.norm(weight) == pytest.approx(2)


def test_without_momentum_newton_muon_is_muon_where_the_inputs_are_orthonormal() -> None:
    """`K` is then a multiple of the identity."""
    memory = AssociativeMemory(4, 4, 1.5, seed=0)
    memory.inputs = torch.eye(4, dtype=torch.float64)
    batch = Batch(torch.arange(4), torch.full((4,), 0.25, dtype=torch.float64))
    gradient = memory.gradient_at_zero(batch).numpy()
    make = partial(NewtonMuon, objective=Objective(memory, batch), lr=LR)
    (one,) = steps_of(make, [gradient], np.zeros((4, 4)))
    (other,) = steps_of(partial(Muon, lr=LR, momentum=0.0), [gradient], np.zeros((4, 4)))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda params: NormalizedSGD(params, momentum=1.0), "momentum is 1.0; expected"),
        (lambda params: MuonH(params, radius=-1.0), "radius is -1.0; expected None or"),
        (lambda params: Dion(params, rank_fraction=1.5), "rank_fraction is 1.5; expected"),
        (lambda params: KLSOAP(params, betas=(0.9, 1.0)), r"betas\[1\] is 1.0; expected"),
        (lambda params: NewtonMuon(params, OBJECTIVE, ridge=0.0), "ridge is 0.0; expected"),
    ],
)
def test_settings_out_of_range_are_refused(
    make: Callable[[Any], torch.optim.Optimizer], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make([torch.nn.Parameter(torch.zeros(3, 3))])


def test_a_vector_is_refused() -> None:
    with pytest.raises(InputError, match=r"a parameter has shape \(3,\); expected a matrix"):
        AdaMuon([torch.nn.Parameter(torch.zeros(3))])
