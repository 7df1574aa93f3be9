"""The grid of a leaderboard: popular optimizers, on the problems of the tracks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list, is_int_between, is_positive
from memsolve.engine import Cell, Grid, option
from memsolve.optimizers.choices import Choice, Optimizers
from memsolve.optimizers.registry import parse
from memsolve.study.leaderboard.candidates import ROUNDS, LeaderboardCandidate
from memsolve.study.leaderboard.references import REFERENCES
from memsolve.study.leaderboard.tracks import (
    ITEMS_PER_SQUARE,
    RANKED,
    TRACKS,
    Problem,
    problems,
)
from memsolve.training import Schedule

DEFAULTS = " (defaults)"
"""At the end of the name of an optimizer that runs with its package's own learning rate."""

POPULAR = (
    "sgd",
    "sgd:momentum=0",
    "torch.optim.AdamW",
    "torch.optim.Muon",
    "torch.optim.Muon:weight_decay=0",
    "torch.optim.LBFGS:lr=1:max_iter=1",
    "muon",
    "muon:momentum=0",
    "newton:lr=1",
    "pytorch_optimizer.AdaFactor:scale_parameter=False:relative_step=False",
    "pytorch_optimizer.Kron",
    "pytorch_optimizer.Lion",
    "pytorch_optimizer.NorMuon",
    "pytorch_optimizer.Prodigy",
    "pytorch_optimizer.ScheduleFreeAdamW",
    "pytorch_optimizer.Shampoo",
    "pytorch_optimizer.SignSGD",
    "pytorch_optimizer.SOAP",
    "pytorch_optimizer.SOAP:precondition_frequency=1",
    "memsolve.examples.optimizers.AdaMuon",
    "memsolve.examples.optimizers.Dion",
    "memsolve.examples.optimizers.KLSOAP",
    "memsolve.examples.optimizers.MuonH",
    "memsolve.examples.optimizers.NewtonMuon",
    "memsolve.examples.optimizers.NormalizedSGD",
    f"torch.optim.AdamW{DEFAULTS}",
    f"torch.optim.Muon{DEFAULTS}",
    f"pytorch_optimizer.SOAP{DEFAULTS}",
)
"""With the settings of their packages unless named, but for the learning rate and the momentum,
which are tuned. Newton's method and L-BFGS have their natural learning rate of 1, L-BFGS one
gradient a step, and Adafactor the learning rate of the tuning instead of its own."""

QUICK: dict[str, Any] = {
    "alphas": [1.5],
    "dims": [32],
    "candidates": 12,
    "tuning_seeds": 1,
    "seeds": 3,
}
"""What `--quick` sets where no value is given."""


class DefaultInt(int):
    """The default of a field, which differs from an equal number that a user gives."""


@dataclass(frozen=True)
class LeaderboardGrid(Grid):
    """A grid of optimizers to rank.

    Args:
        optimizers: as in other studies. A name that ends in ` (defaults)`, as
            `torch.optim.AdamW (defaults)`, stands for the optimizer with the learning rate and the
            settings of its package, which is not tuned.
        tracks: names of `tracks.TRACKS`.
        seeds: number of seeds that are shown, in addition to those of the tuning.
        tuning_seeds: number of seeds on which candidates are selected; none of them is shown.
        first_seed: the first seed of the tuning; the others follow. Boards whose seeds are
            disjoint show how much a ranking depends on them.
        candidates: of the tuning of an optimizer on a problem, a multiple of 6.
        quick: a smaller board, in minutes: sets `QUICK` wherever no value is given.

    Other arguments are those of `Grid`. By default `N = 2 d^2`, in float32: at d <= 128 Muon
    recovers as many items in float32 as in float64, up to the variation between seeds (measured).
    """

    optimizers: Optimizers = option(
        POPULAR,
        "--optimizers",
        str,
        "Optimizers to rank, as in the other studies (default: popular ones).",
        in_cells=True,
    )
    alphas: Sequence[float] = option(
        (1.2, 1.5, 2.0),
        "--alpha",
        float,
        "Exponents of the item frequencies; dear problems have the one nearest to 1.5 only.",
        in_cells=True,
    )
    dims: Sequence[int] = option(
        (32, 64, 128), "--dims", int, "Embedding dimensions d.", in_cells=True
    )
    seeds: int = option(
        DefaultInt(5),
        "--seeds",
        int,
        "Number of seeds that are shown, besides those of the tuning.",
        many=False,
        in_cells=True,
    )
    num_items: int | None = option(
        None,
        "--num-items",
        int,
        "Facts N of every memory (default: 2 d^2).",
        many=False,
        in_cells=True,
    )
    dtype: str = option("float32", "--dtype", str, "float64 or float32.", many=False)
    tracks: Sequence[str] = option(
        RANKED, "--tracks", str, f"Tracks: {', '.join(TRACKS)}.", in_cells=True
    )
    tuning_seeds: int = option(
        DefaultInt(2),
        "--tuning-seeds",
        int,
        "Number of seeds of the tuning.",
        many=False,
        in_cells=True,
    )
    first_seed: int = option(
        0, "--first-seed", int, "The first seed of the tuning.", many=False, in_cells=True
    )
    candidates: int = option(
        DefaultInt(24),
        "--candidates",
        int,
        "Candidates that are tried for every optimizer on every problem.",
        many=False,
        in_cells=True,
    )
    quick: bool = option(
        False,
        "--quick",
        bool,
        "A smaller board, in minutes: d = 32, fewer seeds and candidates.",
        many=False,
        in_cells=True,
    )

    def __post_init__(self) -> None:
        if self.quick:
            defaults = {each.name: each.default for each in fields(LeaderboardGrid)}
            for name, value in QUICK.items():
                if getattr(self, name) is defaults[name]:
                    object.__setattr__(self, name, value)
        super().__post_init__()
        check_list("tracks", self.tracks, f"names of {tuple(TRACKS)}", TRACKS.__contains__)
        object.__setattr__(self, "tracks", list(self.tracks))
        for name, least in (("tuning_seeds", 1), ("first_seed", 0)):
            value = getattr(self, name)
            if not is_int_between(value, least, 31):
                raise RangeError(f"{name} is {value!r}; expected a whole number, at least {least}")
            object.__setattr__(self, name, int(value))
        step = 2 * ROUNDS
        if not is_int_between(self.candidates, step) or self.candidates % step:
            raise RangeError(
                f"candidates is {self.candidates!r}; expected a multiple of {step}: half of them "
                f"are tried at once, and the others in {ROUNDS} rounds"
            )
        object.__setattr__(self, "candidates", int(self.candidates))
        if self.batch_sizes is not None:
            raise RangeError(
                f"batch_sizes is {list(self.batch_sizes)}, but the tracks of a leaderboard have "
                "batch sizes of their own; leave it out, or choose tracks by --tracks"
            )
        if not self.problems:
            raise RangeError(
                f"dims is {self.dims}, where every problem of the tracks {self.tracks} takes too "
                "long; expected smaller ones"
            )
        for label in self.labels:
            self.lr_of(label)

    @property
    def choices(self) -> dict[str, Choice]:
        """Optimizers by label; labels of those with the settings of their packages end so."""
        return {
            label: choice.removesuffix(DEFAULTS) if isinstance(choice, str) else choice
            for label, choice in super().choices.items()
        }

    @property
    def problems(self) -> list[Problem]:
        """The problems of the tracks."""
        return problems(self.tracks, self.alphas, self.dims, self.num_items)

    def problems_of(self, label: str) -> list[Problem]:
        """The problems on which an optimizer is measured.

        Those of a track without a ranking are for the reference optimizers.
        """
        return [
            problem
            for problem in self.problems
            if TRACKS[problem.track].is_ranked or label in REFERENCES
        ]

    def items_of(self, dim: int) -> int:
        """Number of facts of a memory, in the tracks with a ranking."""
        return ITEMS_PER_SQUARE * dim**2 if self.num_items is None else self.num_items

    def lr_of(self, label: str) -> float | None:
        """The learning rate in an optimizer's name; None where there is none.

        Raises:
            RangeError: it is no learning rate.
        """
        lr = self.settings_of(label).get("lr")
        if lr is not None and not is_positive(lr):
            raise RangeError(f"lr is {lr!r} in {label!r}; expected a number above 0")
        return None if lr is None else float(lr)

    def settings_of(self, label: str) -> dict[str, Any]:
        """The settings in an optimizer's name."""
        choice = self.choices[label]
        return parse(choice)[1] if isinstance(choice, str) else {}

    @property
    def seeds_of_tuning(self) -> range:
        """Seeds on which candidates are selected."""
        return range(self.first_seed, self.first_seed + self.tuning_seeds)

    @property
    def seeds_shown(self) -> range:
        """Seeds of the numbers that are shown, none of which is of the tuning."""
        first = self.first_seed + self.tuning_seeds
        return range(first, first + self.seeds)


@dataclass(frozen=True)
class LeaderboardTrial(Cell):
    """A run of a candidate on a problem, with one seed.

    Attributes:
        track, steps: of the problem.
        schedule, lr, ratio, momentum: of the candidate.
        shown: whether the run is shown; else it tunes.
    """

    track: str
    steps: int
    schedule: Schedule
    lr: float | None
    ratio: float
    momentum: float | None
    shown: bool

    @property
    def candidate(self) -> LeaderboardCandidate:
        """The schedule, the learning rate, the ratio and the momentum."""
        return LeaderboardCandidate(self.schedule, self.lr, self.ratio, self.momentum)

    @property
    def problem(self) -> Problem:
        """The problem of the run."""
        return Problem(
            self.track, self.alpha, self.dim, self.num_items, self.batch_size, self.steps
        )
