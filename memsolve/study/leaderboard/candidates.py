"""The candidates of the tuning, and the search for the best of them.

A candidate has up to three coordinates, all base 2 logarithms: the mean of its learning rates over
the steps; the growth from its first to its last learning rate; and
`-log2(1 - momentum)`, of an optimizer with momentum. Half of the candidates are spread over a box
by a Sobol sequence; in turn they have the momentum of the package, none, and that of their point,
since with so few points the search would otherwise lose what each of the first two is worth
(measured). The others come in `ROUNDS` rounds, each around the best so far: one step up and one
down along some of the coordinates, in turn. The steps are `STEP` of the box in the first round,
then half as long in each, and may lead out of the box.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from torch.quasirandom import SobolEngine

from memsolve.study.training.grid import Candidate, mean_lr
from memsolve.study.training.search import BOX, geometric
from memsolve.training import Schedule

ROUNDS = 3

STEP = 1 / 8
"""Of a side of the box: the steps of the first round."""

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
    """The distinct candidates of the first box: half of the budget; one where nothing is tuned.

    Args:
        space: the coordinates.
        unit: the mean learning rate around which the box is, see `tuning.unit_of`.
        momentum: of the package.
        budget: number of candidates in all.
    """
    if not space.coordinates:
        return [space.candidate({})]
    engine = SobolEngine(dimension=len(space.coordinates))
    engine.fast_forward(1)  # the first point is a corner
    candidates = []
    for index, point in enumerate(engine.draw(budget // 2).tolist()):
        position = {
            name: low + (high - low) * x
            for name, x in zip(space.coordinates, point, strict=True)
            for low, high in [BOXES[name]]
        }
        if "learning rate" in position:
            position["learning rate"] += math.log2(unit)
        candidate = space.candidate(position)
        if index % 3 < 2 and {"learning rate", "momentum"} <= position.keys():
            candidate = candidate._replace(momentum=(momentum, 0.0)[index % 3])
        candidates.append(candidate)
    return list(dict.fromkeys(candidates))


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
    per_round = first // ROUNDS
    finished = math.ceil(max(0, len(tried) - first) / per_round)
    if finished >= ROUNDS or steps == 1 or not space.coordinates:
        return []
    around = neighbors(space, best, finished, per_round)
    return [each for each in dict.fromkeys(around) if each not in tried]


def neighbors(
    space: SearchSpace, best: LeaderboardCandidate, finished: int, count: int
) -> list[LeaderboardCandidate]:
    """The candidates one step up and one down along some coordinates, each in its turn.

    A coordinate that has a second turn in the same round has steps half as long there.

    Args:
        space: the coordinates.
        best: the candidate between them.
        finished: number of rounds before.
        count: number of candidates.
    """
    position, names = space.position(best), space.coordinates
    candidates = []
    for turn in range(math.ceil(count / 2)):
        name = names[(finished * math.ceil(count / 2) + turn) % len(names)]
        low, high = BOXES[name]
        step = (high - low) * STEP / 2 ** (finished + turn // len(names))
        for signed in (step, -step):
            candidate = space.candidate(position | {name: position[name] + signed})
            if name != "momentum":
                candidate = candidate._replace(momentum=best.momentum)
            candidates.append(candidate)
    return candidates[:count]


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
