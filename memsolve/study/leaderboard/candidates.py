"""The candidates of the tuning, and the search for the best of them.

A candidate has up to three coordinates, all base 2 logarithms: the mean of its learning rates over
the steps; the growth from its first to its last learning rate; and
`-log2(1 - momentum)`, of an optimizer with momentum. Half of the candidates are spread over a box
by a Sobol sequence. The others come in `ROUNDS` rounds, each from a box around the best so far
whose sides are half as long as before; such a box may reach beyond the first one. Every other
candidate keeps the momentum of the best so far, at first that of the package: with 24 points in
three dimensions the search would otherwise lose what a package's momentum is worth (measured).
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from torch.quasirandom import SobolEngine

from memsolve.study.training.grid import Candidate, mean_lr
from memsolve.study.training.search import BOX, geometric
from memsolve.training import Schedule

ROUNDS = 3

BOXES: Mapping[str, tuple[float, float]] = {
    "learning rate": BOX.log_mean,
    "ratio": BOX.log_growth,
    "momentum": (-1.0, 7.0),
}
"""Of the first candidates, by coordinate: momentum up to 0.99, and none of it below 0."""

LARGEST_MOMENTUM = 10.0
"""Of the third coordinate: a momentum of 0.999."""


class LeaderboardCandidate(NamedTuple):
    """A schedule of learning rates, and a momentum.

    Attributes:
        schedule: its name; `geometric`, `constant` of a learning rate that is set, or one of
            `memsolve.training.OWN_SCHEDULES`.
        lr: the learning rate that it multiplies, or with which an optimizer of the schedule `own`
            is made; None for the schedule `fixed`.
        ratio: of the learning rates of successive steps.
        momentum: `momentum` or `betas[0]` of the optimizer; None is its own.
    """

    schedule: Schedule
    lr: float | None
    ratio: float = 1.0
    momentum: float | None = None

    def __str__(self) -> str:
        """`geometric, learning rate 0.1, ratio 1.35, momentum 0.9`."""
        schedule = Candidate(self.schedule, self.lr or 0.0, self.ratio)
        return f"{schedule}{'' if self.momentum is None else f', momentum {self.momentum:g}'}"


class SearchSpace(NamedTuple):
    """The coordinates in which an optimizer is tuned on a problem.

    Attributes:
        coordinates: names of `BOXES`.
        schedule: of all candidates.
        steps: number of steps of a run.
        lr: of the schedule `constant`.
    """

    coordinates: tuple[str, ...]
    schedule: Schedule
    steps: int
    lr: float | None = None

    def candidate(self, position: Mapping[str, float]) -> LeaderboardCandidate:
        """The candidate at a position."""
        momentum = momentum_at(position["momentum"]) if "momentum" in position else None
        if "learning rate" not in position:
            return LeaderboardCandidate(self.schedule, self.lr, momentum=momentum)
        mean = 2 ** position["learning rate"]
        _, lr, ratio = geometric(mean, position.get("ratio", 0.0), self.steps)
        return LeaderboardCandidate(self.schedule, lr, ratio, momentum)

    def position(self, candidate: LeaderboardCandidate) -> dict[str, float]:
        """The position of a candidate, by coordinate."""
        schedule, lr, ratio, momentum = candidate
        mean = 1.0 if lr is None else mean_lr(Candidate(schedule, lr, ratio), self.steps)
        position = {
            "learning rate": math.log2(mean),
            "ratio": (self.steps - 1) * math.log2(ratio),
            "momentum": -math.log2(1 - (momentum or 0.0)),
        }
        return {name: position[name] for name in self.coordinates}


def space_of(
    schedule: Schedule, steps: int, lr: float | None = None, *, has_momentum: bool
) -> SearchSpace:
    """The space of an optimizer; after one step no ratio and no momentum matters.

    Args:
        schedule: `geometric` and `own` have a learning rate that is tuned.
        steps: number of steps of a run.
        lr: of the schedule `constant`.
        has_momentum: whether the optimizer has a momentum to be tuned.
    """
    several = steps > 1
    coordinates = [
        *["learning rate"] * (schedule in ("geometric", "own")),
        *["ratio"] * (schedule == "geometric" and several),
        *["momentum"] * (has_momentum and several),
    ]
    return SearchSpace(tuple(coordinates), schedule, steps, lr)


def space_of_candidate(candidate: LeaderboardCandidate, steps: int) -> SearchSpace:
    """The space that a candidate is from."""
    schedule, lr, _, momentum = candidate
    return space_of(schedule, steps, lr, has_momentum=momentum is not None)


def momentum_at(coordinate: float) -> float:
    """The momentum at a coordinate, rounded to four digits after the point; none below 0."""
    bounded = min(max(coordinate, 0.0), LARGEST_MOMENTUM)
    return round(1 - 2**-bounded, 4)


def first_candidates(
    space: SearchSpace, unit: float, momentum: float | None, budget: int
) -> list[LeaderboardCandidate]:
    """The candidates of the first box: half of the budget; one where nothing is tuned.

    Args:
        space: the coordinates.
        unit: the mean learning rate around which the box is, see `tuning.unit_of`.
        momentum: of the package.
        budget: number of candidates in all.
    """
    if not space.coordinates:
        return [space.candidate({})]
    middle = {name: sum(BOXES[name]) / 2 for name in space.coordinates}
    if "learning rate" in middle:
        middle["learning rate"] += math.log2(unit)
    return _around(space, middle, momentum, 0, budget)


def next_candidates(
    best: LeaderboardCandidate, tried: Collection[LeaderboardCandidate], steps: int, budget: int
) -> list[LeaderboardCandidate]:
    """The candidates of the next round; none once the budget is spent.

    With one step the learning rate decides on the loss alone, and there are no rounds.

    Args:
        best: so far.
        tried: all candidates so far.
        steps: number of steps of a run.
        budget: number of candidates in all.
    """
    space, first = space_of_candidate(best, steps), budget // 2
    round_ = 1 + math.ceil(max(0, len(tried) - first) / (first // ROUNDS))
    if round_ > ROUNDS or steps == 1 or not space.coordinates:
        return []
    around = _around(space, space.position(best), best.momentum, round_, budget)
    return [each for each in around if each not in tried]


def edges_of(
    best: LeaderboardCandidate, candidates: Iterable[LeaderboardCandidate], steps: int
) -> list[str]:
    """The directions in which the best candidate is outermost.

    No momentum is not an edge, nor is any learning rate of a single step.
    """
    if steps == 1:
        return []
    space = space_of_candidate(best, steps)
    positions = [space.position(each) for each in candidates]
    edges = []
    for name, value in space.position(best).items():
        values = [position[name] for position in positions]
        if min(values) < max(values):
            edges += [f"smallest {name}"] * (value == min(values) and name != "momentum")
            edges += [f"largest {name}"] * (value == max(values))
    return edges


def _around(
    space: SearchSpace,
    center: Mapping[str, float],
    momentum: float | None,
    round_: int,
    budget: int,
) -> list[LeaderboardCandidate]:
    """The distinct candidates of a round, in a box around a position.

    Every other one has a given momentum, where the momentum is tuned beside the learning rate.
    """
    names = space.coordinates
    first = budget // 2
    per_round = first // ROUNDS
    engine = SobolEngine(dimension=len(names))
    engine.fast_forward(1 if round_ == 0 else 1 + first + per_round * (round_ - 1))
    sides = {name: (BOXES[name][1] - BOXES[name][0]) / 2**round_ for name in names}
    candidates = []
    for index, draw in enumerate(engine.draw(first if round_ == 0 else per_round).tolist()):
        position = {
            name: center[name] + sides[name] * (x - 0.5)
            for name, x in zip(names, draw, strict=True)
        }
        candidate = space.candidate(position)
        keeps_momentum = index % 2 == 0 and {"learning rate", "momentum"} <= set(names)
        candidates.append(candidate._replace(momentum=momentum) if keeps_momentum else candidate)
    return list(dict.fromkeys(candidates))
