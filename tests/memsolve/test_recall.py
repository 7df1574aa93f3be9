"""Recall by elimination against all the logits."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from memsolve import AssociativeMemory, Recall
from memsolve.recall import recovered


def dense(queries: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    logits = queries @ outputs.T
    own = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return (others < own).all(1)


@given(st.integers(1, 600), st.integers(1, 5), st.integers(0, 40), st.integers(0, 99))
def test_recovered_is_the_dense_argmax(num_items: int, dim: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(num_items, dim, generator=generator, dtype=torch.float64)
    targets = torch.randint(num_items, (rows,), generator=generator)
    noise = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    queries = outputs[targets] + 0.3 * noise
    assert torch.equal(recovered(queries, outputs, targets), dense(queries, outputs, targets))


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_recovery_does_not_depend_on_the_lr(seed: int, scale: float) -> None:
    memory = AssociativeMemory(300, 8, 1.5, seed=seed)
    weight = -memory.gradient_at_zero(memory.population())
    assert torch.equal(memory.recall(weight).recovered, memory.recall(scale * weight).recovered)


def test_zero_has_recovered_nothing_and_a_lone_item_is_recovered() -> None:
    memory = AssociativeMemory(50, 4, 1.5, seed=0)
    zero = torch.zeros(4, 4, dtype=torch.float64)
    assert memory.recall(zero).count == 0
    assert AssociativeMemory(1, 4, 1.5, seed=0).recall(zero).count == 1


def test_a_perfect_memory_recovers_the_items_asked_for() -> None:
    memory = AssociativeMemory(5, 64, 1.5, seed=0)
    weight = torch.linalg.lstsq(memory.inputs, memory.outputs).solution.T
    recall = memory.recall(weight.contiguous(), torch.tensor([3, 0, 3]))
    assert recall.items.tolist() == [0, 3]
    assert recall.count == 2


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_top_rank_is_the_brute_force_one(flags: list[bool], share: float) -> None:
    recall = Recall(torch.arange(len(flags)), torch.tensor(flags, dtype=torch.bool))
    expected = max(
        (k for k in range(1, len(flags) + 1) if flags[k - 1] and sum(flags[:k]) >= share * k),
        default=0,
    )
    assert recall.top_rank(share) == expected


def test_items_not_asked_for_count_as_not_recovered() -> None:
    recall = Recall(torch.tensor([0, 1, 7]), torch.tensor([True, True, True]))
    assert recall.top_rank() == 2
