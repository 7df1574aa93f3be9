"""The exponent of the capacity against the power of the singular values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve import theory
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import Estimate
from memsolve.report.curves import draw_curve, label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    GRAY,
    MAX_BANDS,
    CurveStyle,
    add_legend,
    alpha_titles,
    create_panels,
    curve_styles,
    escape_mathtext,
    missing_legend,
)
from memsolve.report.names import shorten_names
from memsolve.study.one_step.points import SpectralPoint

FAMILY = "U S^p V^T"

LIMIT: dict[str, Any] = {"color": GRAY, "ls": "--", "lw": 1.2}
FINITE: dict[str, Any] = {"color": GRAY, "ls": ":", "lw": 1.6}
"""Lines of theory: in the limit of large `d`, and at the dimensions of the study."""

LEGEND: dict[str, dict[str, Any]] = {
    "exponent and 95% interval over seeds, as bars or bands": {"marker": "o", "ls": "-"},
    "theory in the limit of large d: published at p = 0, derived elsewhere": LIMIT,
    "theory at these d: derived": FINITE,
}

FINENESS = 41
"""Points of a line of theory."""


def finite_exponent(
    power: float | None, alpha: float, points: Sequence[SpectralPoint]
) -> float | None:
    """Slope in `d` of the expected counts at the dimensions of some points.

    None without a power, with one of -1/2 or below, and with a single dimension.
    """
    if power is None or power <= -1 / 2 or len(points) < 2:
        return None
    counts = [
        theory.spectral_power_count(power, alpha, point.dim, point.num_items) for point in points
    ]
    return float(np.polyfit(np.log([point.dim for point in points]), np.log(counts), 1)[0])


def exponents_against_power(summary: Summary[SpectralPoint]) -> Figure:
    """A panel for each alpha: exponents of powers with their intervals, and the laws.

    Optimizers without a power are levels with their interval as a band.
    """
    others = dict.fromkeys(fit.optimizer for fit in summary.fits if fit.points[0].power is None)
    names = shorten_names(others)
    styles = curve_styles([FAMILY, *others])
    figure, panels = create_panels(
        alpha_titles(summary),
        size=(panel_width([FAMILY, *names.values()], 3.2), panel_height(1 + len(names), 4)),
        axes=("power p of the singular values", "exponent in d of recovered items"),
    )
    missing: list[str] = []
    for alpha, axes in panels.items():
        fits = [fit for fit in summary.fits if fit.alpha == alpha]
        identified = [fit for fit in fits if fit.estimate.value is not None]
        missing += [f"{fit.optimizer} (alpha = {alpha:g})" for fit in fits if fit not in identified]
        powers = {fit.points[0].power: fit for fit in identified if fit.points[0].power is not None}
        span = min([0.0, *powers]), max([1.0, *powers])
        _draw_theory(axes, alpha, fits[0].points, span)
        _draw_powers(axes, powers, styles[FAMILY])
        for fit in identified:
            if fit.points[0].power is None:
                name, style = escape_mathtext(names[fit.optimizer]), styles[fit.optimizer]
                _draw_level(axes, name, style, span, fit.estimate, len(names) <= MAX_BANDS)
    for axes in panels.values():  # which share their limits
        label_ends(axes)
    add_legend(figure, LEGEND | missing_legend(missing, "not identified"))
    return figure


def _draw_theory(
    axes: Axes, alpha: float, points: Sequence[SpectralPoint], span: tuple[float, float]
) -> None:
    powers = np.linspace(*span, FINENESS)
    powers = powers[powers > -1 / 2]
    axes.plot(powers, [theory.spectral_power_exponent(p, alpha) for p in powers], **LIMIT)
    finite = np.array([finite_exponent(p, alpha, points) for p in powers], float)
    axes.plot(powers, finite, **FINITE)


def _draw_powers(axes: Axes, powers: Mapping[float, Fit[SpectralPoint]], style: CurveStyle) -> None:
    if not powers:
        return
    at = sorted(powers)
    values, lows, highs = np.array([powers[p].estimate.bar for p in at], float).T
    bars = np.array([values - lows, highs - values])
    axes.errorbar(
        at, values, bars, fmt=style.marker, ms=5, capsize=3, color=style.color, label=FAMILY
    )


def _draw_level(
    axes: Axes,
    name: str,
    style: CurveStyle,
    span: tuple[float, float],
    estimate: Estimate,
    has_band: bool,
) -> None:
    """An optimizer without a power."""
    assert estimate.bar is not None
    value, low, high = np.repeat(np.array(estimate.bar)[:, None], 2, axis=1)
    draw_curve(axes, name, style, np.array(span), value, (low, high) if has_band else None)
