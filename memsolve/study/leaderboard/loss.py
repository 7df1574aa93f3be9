"""The population loss of a weight, on few items."""

from itertools import pairwise

import torch
from torch import Tensor

from memsolve.frequencies import Batch
from memsolve.problem import AssociativeMemory
from memsolve.study.leaderboard.tracks import LOSS_ITEMS


def loss_items(memory: AssociativeMemory, count: int = LOSS_ITEMS) -> Batch:
    """Items whose weighted loss stands for that of the population.

    All items where there are at most `count`; then the loss is exact. Else half as many of the
    most frequent ones, and the middle item of each of as many blocks of the others, with the
    frequency of the block.
    """
    population = memory.population()
    if memory.num_items <= count:
        return population
    half = count // 2
    bounds = torch.linspace(half, memory.num_items, half + 1).round().long().tolist()
    blocks = list(pairwise(bounds))
    middles = torch.tensor([(start + stop) // 2 for start, stop in blocks])
    frequencies = torch.stack([memory.frequencies[start:stop].sum() for start, stop in blocks])
    return Batch(
        torch.cat((population.items[:half], middles.to(population.items))),
        torch.cat((population.weights[:half], frequencies.to(population.weights))),
    )


@torch.no_grad()
def population_loss(memory: AssociativeMemory, weight: Tensor, items: Batch) -> float:
    """The loss of `weight` (d, d) on `loss_items`, in nats."""
    return float(memory.loss(weight, items))
