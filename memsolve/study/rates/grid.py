"""The grid of `rates`, its trials, and the keys at which they are tuned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, get_args

from memsolve_kernels.errors import RangeError

from memsolve.checks import check_list, is_int_between
from memsolve.engine import Grid, option
from memsolve.optimizers.choices import Optimizers
from memsolve.optimizers.registry import parse
from memsolve.study.training.grid import GradientKind, Trial

GRADIENTS: tuple[GradientKind, ...] = get_args(GradientKind)

EXACT_MUON = "muon:backend=reference"
"""Muon by a singular value decomposition in float64, which resolves a gradient in float32.

At alpha = 3 and d = 256 the default, from the Gram matrix, recovers 13% fewer items (measured).
"""

SEARCH_SHARE = 4
"""A trial of the search has `N / SEARCH_SHARE` facts, and so costs a 16th of one that is reported.
"""


MOST_MEMORIES = 8
"""Of one seed at one `d`."""

SEARCH_MEMORIES = 2
"""Of the search at one `d`, at most."""


@dataclass(frozen=True)
class RatesGrid(Grid):
    """A grid of the first steps of training.

    Args:
        steps: largest number of steps; every number up to it is tuned and reported.
        gradients: `exact`, `thresholded` (of the items that are not recovered yet), or both.

    Other arguments are those of `Grid`. By default `N = 64 d`, in float32: up to alpha = 2 and
    d = 256 counts are those of float64, and at alpha = 3 they are 4% lower (measured).
    """

    items_per_dim: ClassVar[int] = 64

    optimizers: Optimizers = option(
        ("sgd", EXACT_MUON),
        "--optimizers",
        str,
        "sgd, muon, newton, a class: torch.optim.AdamW, or a factory: my_module:make.",
        in_cells=True,
    )
    seeds: int = option(3, "--seeds", int, "How many seeds.", many=False, in_cells=True)
    dtype: str = option("float32", "--dtype", str, "float64 or float32.", many=False)
    steps: int = option(6, "--steps", int, "Largest number of steps.", many=False, in_cells=True)
    gradients: Sequence[GradientKind] = option(
        GRADIENTS,
        "--gradient",
        str,
        "exact, thresholded (of items not recovered), or both.",
        in_cells=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_int_between(self.steps, 1):
            raise RangeError(f"steps is {self.steps!r}; expected a whole number of at least 1")
        object.__setattr__(self, "steps", int(self.steps))
        check_list("gradients", self.gradients, f"names of {GRADIENTS}", GRADIENTS.__contains__)
        object.__setattr__(self, "gradients", list(self.gradients))
        if self.batch_sizes is not None:
            raise RangeError(
                f"batch_sizes is {list(self.batch_sizes)}, but this study takes the population "
                "gradient; leave it out, or run dynamics, which trains on batches"
            )
        for label, choice in self.choices.items():
            if isinstance(choice, str) and "lr" in parse(choice)[1]:
                raise RangeError(
                    f"optimizer {label!r} has an lr, but this study tunes learning rates; leave "
                    "the lr out, or run dynamics, which keeps it"
                )

    def search_items_of(self, dim: int) -> int:
        """Number of facts of a trial of the search, fewer than those of one that is reported."""
        return max(1, self.items_of(dim) // SEARCH_SHARE)

    def memory_seeds(self, dim: int, seed: int) -> range:
        """The seeds of the memories of one seed: more at a small `d`, where counts vary more.

        At a quarter of the largest `d` four memories take a 16th of the time of one at the largest.
        """
        count = max(1, min(MOST_MEMORIES, (max(self.dims) // dim) ** 2 // 4))
        return range(MOST_MEMORIES * seed, MOST_MEMORIES * seed + count)

    def search_seeds(self, dim: int) -> range:
        """The seeds of the memories of the search: the first ones of seed 0."""
        return self.memory_seeds(dim, 0)[:SEARCH_MEMORIES]


@dataclass(frozen=True)
class RatesTrial(Trial):
    """A run of a candidate, for the search or, with all facts, for the report.

    Attributes:
        steps: number of steps.
        gradient: `exact` or `thresholded`.
    """

    steps: int = 1
    gradient: GradientKind = "exact"


class RatesKey(NamedTuple):
    """Every number of steps is tuned separately for each of these."""

    optimizer: str
    alpha: float
    dim: int
    gradient: GradientKind
