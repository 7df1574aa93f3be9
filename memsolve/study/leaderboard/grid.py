"""What a leaderboard compares: optimizers that people use, on the same memories."""

from collections.abc import Sequence
from dataclasses import dataclass

from memsolve_kernels.errors import RangeError

from memsolve.engine import option
from memsolve.optimizers.choices import Optimizers
from memsolve.study.training.grid import TrainingGrid, Trial, check_horizon_free
from memsolve.training import Schedule

TUNING_SEEDS = range(1)
"""Step sizes are tuned on these; every number that is shown is of others."""

WITH_BATCHES = 10
"""Steps with batches, by which the critical batch size is told."""

FAMOUS = (
    "sgd",
    "torch.optim.SGD:momentum=0.9",
    "torch.optim.AdamW",
    "torch.optim.Muon",
    "torch.optim.Muon:weight_decay=0",
    "torch.optim.LBFGS:lr=1:max_iter=1",
    "muon",
    "muon:momentum=0.95",
    "newton:lr=1",
    "pytorch_optimizer.AdaFactor:scale_parameter=False:relative_step=False",
    "pytorch_optimizer.Kron",
    "pytorch_optimizer.Lion",
    "pytorch_optimizer.NorMuon",
    "pytorch_optimizer.Prodigy",
    "pytorch_optimizer.ScheduleFreeAdamW",
    "pytorch_optimizer.Shampoo",
    "pytorch_optimizer.SOAP",
)
"""At the settings of their packages, but for what is named: Newton's method and
L-BFGS at their natural step size, the latter with one gradient a step, and Adafactor at the step
size that it is given."""


@dataclass(frozen=True)
class LeaderboardGrid(TrainingGrid):
    """A grid of optimizers to rank.

    Args:
        seeds: how many, beside the one that step sizes are tuned on.
        schedules: constant and inverse, which do not depend on the number of steps, so that a run
            is also the shorter run that it begins with.
        batch_sizes: of the runs for the critical batch size, at the smallest `d` alone; default
            powers of 4 up to `d^(alpha + 1/2)`.

    Other arguments are those of `TrainingGrid`. By default `N = 2048` at every `d`, in float32: by
    count a step is `6 N^2 d` flops, and its exponentials, and at d <= 128 Muon stores as much in
    float32 as in float64, up to what another draw of the embeddings makes of it (measured).
    """

    optimizers: Optimizers = option(
        FAMOUS,
        "--optimizers",
        str,
        "What to rank, as in the other studies (default: what people use).",
        in_cells=True,
    )
    dims: Sequence[int] = option((32, 64), "--dims", int, "Embedding dimensions d.", in_cells=True)
    seeds: int = option(
        3,
        "--seeds",
        int,
        "How many seeds, beside the one of the tuning.",
        many=False,
        in_cells=True,
    )
    num_items: int | None = option(
        2048, "--num-items", int, "Facts N of every memory.", many=False, in_cells=True
    )
    schedules: Sequence[Schedule] = option(
        ("constant", "inverse"),
        "--schedules",
        str,
        "How the step size falls: constant, inverse.",
        in_cells=True,
    )
    dtype: str = option("float32", "--dtype", str, "float64 or float32.", many=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_horizon_free(self.schedules)
        if self.gradient != "exact":
            raise RangeError(
                f"gradient is {self.gradient!r}; expected 'exact', since a leaderboard compares "
                "what optimizers do with the gradient of the population and of batches"
            )

    @property
    def shown(self) -> range:
        """Seeds of the numbers that are shown."""
        return range(len(TUNING_SEEDS), len(TUNING_SEEDS) + self.seeds)

    @property
    def horizons(self) -> list[int]:
        """After how many steps the items are counted: 1, 10, and all."""
        return [*(steps for steps in (1, WITH_BATCHES) if steps < self.steps), self.steps]

    def steps_with(self, batch_size: int | None) -> int:
        """Steps of a run: with batches at most 10."""
        return self.steps if batch_size is None else min(self.steps, WITH_BATCHES)

    def batch_sizes_of(self, alpha: float, dim: int) -> list[int]:
        """Batch sizes, increasing: every other power of two by default."""
        sizes = super().batch_sizes_of(alpha, dim)
        return sizes if self.batch_sizes is not None else sizes[::2]


@dataclass(frozen=True)
class LeaderboardTrial(Trial):
    """One run of a leaderboard.

    Attributes:
        steps: how many it takes.
    """

    steps: int

    @property
    def tunes(self) -> bool:
        """It is of the tuning, and no number that is shown."""
        return self.seed in TUNING_SEEDS
