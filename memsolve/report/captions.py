"""Captions of figures and tables: what is shown, of how many memories, and how it was measured."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.engine.study import AnyStudy
from memsolve.report.alt_text import axis_titles, marks
from memsolve.report.drawing import dims

INTERVAL = "Intervals without another name are Student's 95% intervals over seeds, by the jackknife"


def figure_caption(study: AnyStudy, summary: Summary[Any], figure: Figure) -> str:
    """The axes and marks of a figure, then how it was measured."""
    shown = " against ".join(filter(None, reversed(axis_titles(figure)))) or study.quantity
    explained = f" ({marks(figure)})" if marks(figure) else ""
    return f"{shown[0].upper()}{shown[1:]}{explained}. {provenance(summary)}"


def table_caption(study: AnyStudy, summary: Summary[Any]) -> str:
    """The quantity of a table, then how it was measured."""
    return f"{study.name}: {study.quantity}. {provenance(summary)}"


def provenance(summary: Summary[Any]) -> str:
    """Alpha, `d`, `N`, seeds, meaning of intervals, and the command."""
    points = [point for fit in summary.fits for point in fit.points]
    counts_of_points = [point.num_items for point in points if hasattr(point, "num_items")]
    items = {int(count) for counts in counts_of_points for count in np.ravel(counts)}
    if not items and (count := summary.grid.get("num_items")):
        items = {count}
    settings = [
        f"alpha = {_listed(fit.alpha for fit in summary.fits)}",
        f"d = {_listed(dims(summary))}",
        *([f"N = {_listed(items)}"] if items else []),
        *([f"{seeds} seeds"] if (seeds := summary.grid.get("seeds")) else []),
    ]
    return f"{', '.join(settings)}. {INTERVAL}. Measured by: {summary.command}"


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.10g}" for value in sorted(set(values)))
