"""How the studies of capacity show the number of items recovered."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from memsolve.engine import Summary
from memsolve.engine.results.estimate import ErrorBar, mean
from memsolve.report.formatting import format_count
from memsolve.study.one_step.base import OneStepStudy
from memsolve.study.one_step.points import CapacityPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

C = TypeVar("C", bound=CapacityPoint)


class CountStudy(OneStepStudy[C]):
    """A study that shows the number of items recovered from the population gradient."""

    quantity = "recovered items"

    def value(self, point: C) -> str:
        """Items recovered."""
        return format_count(point.mean)

    def score(self, point: C) -> float:
        """Items recovered."""
        return point.mean

    def detail(self, point: C) -> str:
        """Items recovered, and the highest recovered rank."""
        return f"{self.value(point)} (99% of the top {np.mean(point.top_rank):.0f})"

    def figures(self, summary: Summary[C]) -> dict[str, "Figure"]:
        """Items recovered against `d`, and against settings that vary."""
        from memsolve.report.power_law import power_law_figure
        from memsolve.report.sweep_figure import point_bars, sweep_figures

        def bar(point: C) -> ErrorBar | None:
            return mean(point.recovered).bar

        bars = "mean and 95% interval over seeds"
        return {
            "capacity-against-d": power_law_figure(summary, self.quantity, bar, bars),
            **sweep_figures("capacity", self.quantity, point_bars(summary, bar)),
        }
