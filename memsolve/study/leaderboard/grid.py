"""The grid of a leaderboard: popular optimizers on the same memories."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from memsolve_kernels.errors import RangeError

from memsolve.engine import option
from memsolve.optimizers.choices import Optimizers
from memsolve.study.training.grid import TrainingGrid, Trial, check_horizon_free
from memsolve.study.training.tuning import TUNING_SEEDS
from memsolve.training import HORIZON_FREE, Schedule

BATCH_STEPS = 10
"""Steps of the runs on batches, which give the saturating batch size."""

POPULAR = (
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
"""With the default settings of their packages unless named: Newton's method and L-BFGS with their
natural learning rate of 1, L-BFGS with one gradient per step, and Adafactor with the learning rate
of the tuning instead of its own."""


@dataclass(frozen=True)
class LeaderboardGrid(TrainingGrid):
    """A grid of optimizers to rank.

    Args:
        seeds: number of evaluation seeds, in addition to the tuning seed.
        schedules: of `memsolve.training.HORIZON_FREE`, so that the first steps of a run are also
            a shorter run.
        batch_sizes: of the runs for the saturating batch size, at the smallest `d` only; default
            powers of 4 up to `d^(alpha + 1/2)`.

    Other arguments are those of `TrainingGrid`. By default `N = 2048` at every `d`, in float32: a
    step takes `6 N^2 d` flops and its exponentials, and at d <= 128 Muon recovers as many items in
    float32 as in float64, up to the variation between seeds (measured).
    """

    optimizers: Optimizers = option(
        POPULAR,
        "--optimizers",
        str,
        "Optimizers to rank, as in the other studies (default: popular ones).",
        in_cells=True,
    )
    dims: Sequence[int] = option((32, 64), "--dims", int, "Embedding dimensions d.", in_cells=True)
    seeds: int = option(
        3,
        "--seeds",
        int,
        "Number of seeds, in addition to the one for tuning.",
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
        f"How the learning rate changes: {', '.join(HORIZON_FREE)}.",
        in_cells=True,
    )
    dtype: str = option("float32", "--dtype", str, "float64 or float32.", many=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_horizon_free(self.schedules)
        if self.gradient != "exact":
            raise RangeError(
                f"gradient is {self.gradient!r}; expected 'exact', since a leaderboard compares "
                "optimizers on the gradient of the population and of batches"
            )

    @property
    def evaluation_seeds(self) -> range:
        """Seeds of the reported numbers, none of which is a tuning seed."""
        return range(len(TUNING_SEEDS), len(TUNING_SEEDS) + self.seeds)

    @property
    def horizons(self) -> list[int]:
        """The numbers of steps that are reported: 1, 10, and all."""
        return [*(steps for steps in (1, BATCH_STEPS) if steps < self.steps), self.steps]

    @property
    def batch_steps(self) -> int:
        """Number of steps of a run on batches: at most 10."""
        return min(self.steps, BATCH_STEPS)

    def batch_sizes_of(self, alpha: float, dim: int) -> list[int]:
        """Batch sizes, increasing: every other power of two by default."""
        sizes = super().batch_sizes_of(alpha, dim)
        return sizes if self.batch_sizes is not None else sizes[::2]


@dataclass(frozen=True)
class LeaderboardTrial(Trial):
    """A training run of a leaderboard, for tuning or for evaluation.

    Attributes:
        steps: number of steps.
    """

    steps: int = field(kw_only=True)

    @property
    def is_for_tuning(self) -> bool:
        """Whether it only tunes; else it is reported."""
        return self.seed in TUNING_SEEDS
