"""The tracks of a leaderboard: the problems of each, and their count of flops."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

from memsolve.frequencies import power_law
from memsolve.recall import FIRST_TILE
from memsolve.theory import expected_distinct_items, limit

ITEMS_PER_SQUARE = 2
"""`N / d^2`: with fewer facts a study is not in the regime `N >> d^2` (`docs/training.md`)."""

CENTRAL_ALPHA = 1.5
"""Problems that cost more than `CHEAP` are measured at the alpha of a grid nearest to this."""

CHEAP, DEAR = 3.9e10, 3e11
"""Flops of a run: up to `CHEAP` at every alpha, up to `DEAR` at one; dearer ones are left out."""

LOSS_ITEMS = 2048
"""Items on which the loss of a population is evaluated, at most; see `loss.loss_items`."""


class Problem(NamedTuple):
    """A kind of memory, a batch size and a number of steps; every optimizer is tuned for it alone.

    Attributes:
        track: name of its track.
        alpha: exponent of the frequencies.
        dim: embedding dimension `d`.
        num_items: number of facts `N`.
        batch_size: items drawn in a step; None for the gradient of the population.
        steps: number of steps.
    """

    track: str
    alpha: float
    dim: int
    num_items: int
    batch_size: int | None
    steps: int

    @property
    def limit(self) -> float:
        """About how many items any weight can store, `theory.limit`."""
        return limit(self.dim, self.num_items)

    def __str__(self) -> str:
        """`alpha = 1.5, d = 32, N = 2048, B = 64, 300 steps`."""
        batch = "" if self.batch_size is None else f", B = {self.batch_size}"
        plural = "s" if self.steps > 1 else ""
        return (
            f"alpha = {self.alpha:g}, d = {self.dim}, N = {self.num_items}{batch}, "
            f"{self.steps} step{plural}"
        )


class Setting(NamedTuple):
    """What the problems of a track have in common at every alpha and `d`.

    Attributes:
        steps: number of steps.
        batch_share: batch size as a share of `saturating_batch_size`; None for the population.
        items_share: number of facts, relative to that of the other problems.
    """

    steps: int
    batch_share: float | None = None
    items_share: float = 1.0


@dataclass(frozen=True)
class Track:
    """Problems of one kind, with a ranking of their own.

    Attributes:
        name: as the command line has it.
        description: in a few words.
        settings: of its problems.
        is_ranked: whether optimizers are ranked on it. Else it is measured for the reference
            optimizers, at the smallest `d` only.
    """

    name: str
    description: str
    settings: tuple[Setting, ...]
    is_ranked: bool = True

    def problems(self, alpha: float, dim: int, num_items: int | None = None) -> list[Problem]:
        """The problems at one alpha and `d`.

        Args:
            alpha: exponent of the frequencies.
            dim: embedding dimension `d`.
            num_items: number of facts `N`; default `2 d^2`.
        """
        items = ITEMS_PER_SQUARE * dim**2 if num_items is None else num_items
        star = saturating_batch_size(alpha, dim)
        return [
            Problem(
                self.name,
                alpha,
                dim,
                round(items * setting.items_share),
                None if setting.batch_share is None else max(1, round(star * setting.batch_share)),
                setting.steps,
            )
            for setting in self.settings
        ]


TRACKS = {
    track.name: track
    for track in (
        Track("one-step", "one step on the gradient of the population", (Setting(1),)),
        Track(
            "full-gradient",
            "10 and 50 steps on the gradient of the population",
            (Setting(10), Setting(50)),
        ),
        Track(
            "minibatch",
            "300 steps on batches of B* / 16 and of B* = d^(alpha + 1/2) items",
            (Setting(300, 1 / 16), Setting(300, 1.0)),
        ),
        Track(
            "facts",
            "10 exact steps and 300 on batches of B* / 16, with N = d^2 and 4 d^2 facts",
            tuple(
                Setting(steps, share, items_share)
                for steps, share in ((10, None), (300, 1 / 16))
                for items_share in (0.5, 2.0)
            ),
            is_ranked=False,
        ),
    )
}
"""By name, in the order in which they are shown."""

RANKED = tuple(name for name, track in TRACKS.items() if track.is_ranked)
"""The tracks with a ranking."""


def saturating_batch_size(alpha: float, dim: int) -> int:
    """`B* = d^(alpha + 1/2)`, from which one step of Muon stores no more (published)."""
    size: float = float(dim) ** (alpha + 0.5)
    return max(1, round(size))


def problems(
    tracks: Iterable[str],
    alphas: Sequence[float],
    dims: Sequence[int],
    num_items: int | None = None,
) -> list[Problem]:
    """The problems of some tracks, by track, alpha and `d`.

    Those whose run takes more than `CHEAP` flops are at one alpha only, the one nearest to
    `CENTRAL_ALPHA`; those that take more than `DEAR` are left out.
    """
    central = min(alphas, key=lambda alpha: abs(alpha - CENTRAL_ALPHA))
    return [
        problem
        for name in tracks
        for alpha in alphas
        for dim in (dims if TRACKS[name].is_ranked else [min(dims)])
        for problem in TRACKS[name].problems(alpha, dim, num_items)
        if flops(problem) <= (DEAR if alpha == central else CHEAP)
    ]


def problem_order(problem: Problem) -> tuple[float, ...]:
    """The order in which problems are shown: by track, alpha, `d`, steps, `N` and batch size."""
    track, alpha, dim, num_items, batch_size, steps = problem
    size = math.inf if batch_size is None else batch_size
    return [*TRACKS].index(track), alpha, dim, steps, num_items, size


@cache
def flops(problem: Problem) -> float:
    """About how many flops a run of a problem takes, without those of the optimizer (derived).

    A step on `n` distinct items takes `6 N n d`; the first one, at `W = 0`, has a closed form. The
    recall after powers of two compares every item with a few hundred others, and the loss at the
    end takes `2 N d` for each item on which it is evaluated. Exponentials, `N n` a step, are not
    counted.
    """
    _, _, dim, num_items, _, steps = problem
    step = 6.0 * num_items * distinct_items(problem) * dim
    recalls = len(marks_of(steps)) * 2.0 * num_items * (2 * FIRST_TILE) * dim
    loss = 2.0 * num_items * min(num_items, LOSS_ITEMS) * dim
    return (steps - 1) * step + recalls + loss


@cache
def distinct_items(problem: Problem) -> float:
    """Expected number of distinct items in a batch of a problem."""
    if problem.batch_size is None:
        return float(problem.num_items)
    sizes = torch.tensor([problem.batch_size], dtype=torch.float64)
    return float(expected_distinct_items(power_law(problem.num_items, problem.alpha), sizes)[0])


def marks_of(steps: int) -> list[int]:
    """Steps after which the recall is evaluated: powers of two, and the last."""
    return sorted({*(2**power for power in range(steps.bit_length())), steps})
