"""The theorem's Muon: its damping at every step, and its state."""

import copy

import pytest
import torch

from memsolve import AssociativeMemory, InputError, theory
from memsolve.objective import Objective
from memsolve.optim import Muon, TheoremMuon
from memsolve.optimizers.registry import builder
from memsolve.training import Trainer

ALPHA, DIM = 1.5, 8
MEMORY = AssociativeMemory(256, DIM, ALPHA, seed=0)
POPULATION = MEMORY.population()
NAME = "memsolve.optim.TheoremMuon"


def dampings(scale: float, steps: int) -> list[float]:
    """Of every step, relative to the largest singular value of the first gradient."""
    trainer = Trainer(Objective(MEMORY, POPULATION), builder(f"{NAME}:scale={scale}"))
    norm = torch.linalg.matrix_norm(MEMORY.gradient_at_zero(POPULATION), 2)
    values = []
    for _ in range(steps):
        trainer.step(POPULATION, 1.0)
        values.append(trainer.optimizer.param_groups[0]["damping"] / float(norm))
    return values


def test_the_damping_follows_the_law_of_the_items() -> None:
    law = theory.exponents_by_step("muon", ALPHA, 3)
    expected = [0.5 * DIM ** (0.5 - ALPHA * exponent) for exponent in law]
    assert dampings(0.5, 3) == pytest.approx(expected)
    assert dampings(1, 1) == pytest.approx([DIM**-ALPHA])


def test_the_first_step_is_that_of_muon_with_this_damping() -> None:
    steps = [
        Trainer(Objective(MEMORY, POPULATION), builder(name)).step(POPULATION, 2.0)
        for name in (NAME, f"muon:relative_damping={DIM**-ALPHA!r}")
    ]
    assert steps[0] is not None
    assert steps[1] is not None
    torch.testing.assert_close(steps[0].weight, steps[1].weight)


def test_without_scale_it_is_muon() -> None:
    trainers = [
        Trainer(Objective(MEMORY, POPULATION), builder(name))
        for name in (f"{NAME}:scale=0", "muon")
    ]
    for _ in range(2):
        one, other = (trainer.step(POPULATION, 2.0) for trainer in trainers)
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one.weight, other.weight)


def made() -> tuple[torch.nn.Parameter, TheoremMuon]:
    weight = torch.nn.Parameter(torch.zeros(DIM, DIM, dtype=torch.float64))
    return weight, TheoremMuon([weight], Objective(MEMORY, POPULATION))


def step(weight: torch.nn.Parameter, optimizer: Muon) -> None:
    weight.grad = MEMORY.gradient(weight.detach(), POPULATION)
    optimizer.step()


def test_a_copy_and_a_loaded_state_go_on_alike() -> None:
    weight, optimizer = made()
    step(weight, optimizer)
    copied_weight, copied = copy.deepcopy((weight, optimizer))
    loaded_weight, loaded = made()
    loaded.load_state_dict(optimizer.state_dict())
    loaded_weight.data.copy_(weight.data)
    for each in ((weight, optimizer), (copied_weight, copied), (loaded_weight, loaded)):
        step(*each)
    assert torch.equal(weight, copied_weight)
    assert torch.equal(weight, loaded_weight)


def test_a_step_that_raises_changes_nothing() -> None:
    weight, optimizer = made()
    weight.grad = torch.full_like(weight, torch.nan)
    with pytest.raises(InputError):
        optimizer.step()
    assert not optimizer.state
    step(weight, optimizer)
    assert optimizer.state[weight]["steps"] == 1


def test_a_scale_out_of_range_is_refused() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(InputError, match="scale is -1; expected a finite number of at least 0"):
        TheoremMuon([weight], Objective(MEMORY, POPULATION), scale=-1)
    with pytest.raises(InputError, match="scale is 'foo'; expected a finite number"):
        TheoremMuon([weight], Objective(MEMORY, POPULATION), scale="foo")  # type: ignore[arg-type]


def test_a_damping_and_a_second_matrix_are_refused() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2)]
    with pytest.raises(InputError, match="damping is set by TheoremMuon in each step"):
        TheoremMuon(weights[:1], Objective(MEMORY, POPULATION), damping=0.1)
    with pytest.raises(InputError, match="params holds 2 matrices; expected the weight of one"):
        TheoremMuon(weights, Objective(MEMORY, POPULATION))


def test_a_larger_scale_has_no_law() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = TheoremMuon([weight], Objective(MEMORY, POPULATION), scale=10)
    assert theory.method_of(optimizer) is None


def test_the_law_of_muon_is_its_law() -> None:
    _, optimizer = made()
    assert theory.method_of(optimizer, steps=3) == "muon"
