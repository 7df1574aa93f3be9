"""The exponent of the capacity against the power of the singular values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve import theory
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import Floats
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
from memsolve.study.one_step.spectral_exponent import finite_exponent

FAMILY = "U S^p V^T"

LIMIT_LINE: dict[str, Any] = {"color": GRAY, "ls": "--", "lw": 1.2}
FINITE_LINE: dict[str, Any] = {"color": GRAY, "ls": ":", "lw": 1.6}
"""Theory in the limit of large `d`, and at the dimensions of the study."""

MEASURED: dict[str, dict[str, Any]] = {
    "exponent and 95% interval over seeds, as bars or bands": {"marker": "o", "ls": "-"}
}
THEORY: dict[str, dict[str, Any]] = {
    "theory in the limit of large d: published at p = 0, derived elsewhere": LIMIT_LINE,
    "theory at these d: derived": FINITE_LINE,
}

LINE_POINTS = 41
"""Points of a line of theory."""


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
        powers = [power for fit in fits if (power := fit.points[0].power) is not None]
        span = np.array([min([0.0, *powers]), max([1.0, *powers])])
        if any(fit.law is not None for fit in fits):
            _draw_theory(axes, alpha, fits[0].points, span)
        _draw_powers(axes, fits, styles[FAMILY])
        for fit in fits:
            if fit.estimate.bar is None:
                missing.append(f"{fit.optimizer} (alpha = {alpha:g})")
            elif fit.points[0].power is None:
                name, style = escape_mathtext(names[fit.optimizer]), styles[fit.optimizer]
                value, low, high = np.repeat(np.array(fit.estimate.bar)[:, None], 2, axis=1)
                band = (low, high) if len(names) <= MAX_BANDS else None
                draw_curve(axes, name, style, span, value, band)
    for axes in panels.values():  # which share their limits
        label_ends(axes)
    theory_lines = THEORY if any(fit.law is not None for fit in summary.fits) else {}
    add_legend(figure, MEASURED | theory_lines | missing_legend(missing, "not identified"))
    return figure


def _draw_theory(axes: Axes, alpha: float, points: Sequence[SpectralPoint], span: Floats) -> None:
    powers = np.linspace(span[0], span[1], LINE_POINTS)
    powers = powers[powers > -1 / 2]
    limits = [theory.spectral_power_exponent(power, alpha) for power in powers]
    axes.plot(powers, limits, **LIMIT_LINE)
    slopes = np.array([finite_exponent(power, alpha, points) for power in powers], float)
    axes.plot(powers, slopes, **FINITE_LINE)


def _draw_powers(axes: Axes, fits: Sequence[Fit[SpectralPoint]], style: CurveStyle) -> None:
    """The exponents of all powers, as one curve of bars."""
    bars = {
        (power, fit.estimate.bar)
        for fit in fits
        if (power := fit.points[0].power) is not None and fit.estimate.bar is not None
    }
    if bars:
        powers, estimates = zip(*sorted(bars), strict=True)
        values, lows, highs = np.array(estimates).T
        errors = np.array([values - lows, highs - values])
        axes.errorbar(
            powers,
            values,
            errors,
            fmt=style.marker,
            ms=5,
            capsize=3,
            color=style.color,
            label=FAMILY,
        )
