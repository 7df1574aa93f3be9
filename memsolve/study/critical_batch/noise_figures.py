"""The figure of `noise-scale`: noise scales and the saturation batch size against `d`."""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext

from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import ErrorBar
from memsolve.engine.results.summary import P
from memsolve.report.curves import label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    add_legend,
    create_panels,
    curve_styles,
    dims,
    escape_mathtext,
    missing_legend,
    optimizers,
)
from memsolve.report.names import shorten_names
from memsolve.report.power_law import draw_power_law, set_log_axes

Curve = tuple[Fit[P], Callable[[P], ErrorBar | None]]
"""A quantity as a fit of its name, and its value with its interval at a point."""


def power_laws_figure(
    summary: Summary[P], quantity: str, curves_of: Callable[[Fit[P]], Sequence[Curve[P]]]
) -> Figure:
    """A panel for each alpha and optimizer: several quantities against `d`, each with its law."""
    names = shorten_names(optimizers(summary))
    shown = {label: escape_mathtext(name) for label, name in names.items()}
    titles = {
        (fit.alpha, fit.optimizer): f"{shown[fit.optimizer]}, alpha = {fit.alpha:g}"
        for fit in summary.fits
    }
    curves = {(fit.alpha, fit.optimizer): curves_of(fit) for fit in summary.fits}
    labels = list(dict.fromkeys(curve.optimizer for each in curves.values() for curve, _ in each))
    styles = curve_styles(labels)
    figure, panels = create_panels(
        titles,
        size=(
            panel_width([f"{label}: 1.00" for label in labels], 2.4),
            panel_height(len(labels), 3.4),
        ),
        axes=("embedding dimension d", quantity),
    )
    missing: list[str] = []
    for key, axes in panels.items():
        for curve, bar in curves[key]:
            bars = {point.dim: each for point in curve.points if (each := bar(point)) is not None}
            if bars:
                draw_power_law(axes, curve, bars, curve.optimizer, styles[curve.optimizer])
            else:
                missing.append(f"{curve.optimizer} of {titles[key]}")
        set_log_axes(axes, dims(summary))
        axes.yaxis.set_major_formatter(LogFormatterMathtext())  # of many decades
    for axes in panels.values():  # which share their limits
        label_ends(axes)
    add_legend(
        figure,
        {
            "mean or estimate and 95% interval over seeds": {"marker": "o", "ls": ""},
            "fitted power of d, its exponent beside the name": {"ls": "-"},
            "slope of theory": {"ls": "--"},
        }
        | missing_legend(missing, "not identified"),
    )
    return figure
