"""The grid of a study of races."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from memsolve.engine import option
from memsolve.study.critical_batch.target import Target
from memsolve.study.training.grid import TrainingGrid, check_horizon_free
from memsolve.training import HORIZON_FREE, Schedule


@dataclass(frozen=True)
class RaceGrid(TrainingGrid):
    """A grid of races.

    Args:
        schedules: of `memsolve.training.HORIZON_FREE`; the others depend on the number of steps,
            which a race measures.
        target: `recovered=20` items, `limit=0.5` of `d^2 / (2 ln N)`, or `loss=2.5`, of the
            population; refused where no weight reaches it.

    Other arguments are those of `TrainingGrid`; a race is given up after `steps`. By default batch
    sizes are powers of 4 up to `d^(alpha + 1/2)`, where Muon's first step saturates.
    """

    schedules: Sequence[Schedule] = option(
        ("constant",),
        "--schedules",
        str,
        f"How the learning rate changes: {', '.join(HORIZON_FREE)}.",
        in_cells=True,
    )
    target: str = option(
        "limit=0.5",
        "--target",
        str,
        "What ends a run: recovered=ITEMS, limit=SHARE of d^2 / (2 ln N), or loss=NATS.",
        many=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_horizon_free(self.schedules)
        target = Target.parse(self.target)
        for alpha, dim in product(self.alphas, self.dims):
            target.at(alpha, dim, self.items_of(dim))

    def batch_sizes_of(self, alpha: float, dim: int) -> list[int]:
        """Batch sizes, increasing: every other power of two by default."""
        if self.batch_sizes is not None:
            return list(self.batch_sizes)
        return super().batch_sizes_of(alpha, dim)[::2]
