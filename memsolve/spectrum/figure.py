"""The figure: quantiles of the singular values of each matrix against its size."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from memsolve.engine.results.estimate import jackknife
from memsolve.report.curves import label_ends, panel_width
from memsolve.report.drawing import add_legend, create_panels, curve_styles
from memsolve.spectrum.singular_values import Floats, Spectrum

LEVELS = 0.5, 0.1, 0.01
"""The quantiles that are drawn."""

GAUSSIAN_LEVEL = 0.1
GAUSSIAN = 0.1573
"""The 10% quantile of a square Gaussian matrix over its Frobenius norm, times the root of its size:
twice the solution `x` of `(2 / pi) (x sqrt(1 - x^2) + asin x) = 0.1`, by the quarter-circle law."""


def spectrum_figure(spectra: Sequence[Spectrum]) -> Figure:
    """Quantiles against the smaller side, on logarithmic axes.

    A curve goes through the medians of the matrices of each size. The dashed line is the 10%
    quantile of square Gaussian matrices, which falls as the root of the size (derived).
    """
    sizes = np.array([spectrum.matrix.rank for spectrum in spectra], dtype=float)
    names = {level: f"{level:.0%}" for level in LEVELS}
    styles = curve_styles(names.values())
    labels = {level: _label(spectra, sizes, level) for level in LEVELS}
    figure, panels = create_panels(
        {"": ""},
        size=(panel_width(list(labels.values()), 3.2), 4),
        axes=("smaller side of the matrix", "singular value over the Frobenius norm"),
    )
    axes = panels[""]
    axes.set(xscale="log", yscale="log")
    unique = np.unique(sizes)
    for level in LEVELS:
        color, marker = styles[names[level]]
        values = _quantiles(spectra, level)
        axes.plot(sizes, values, marker, ms=3, alpha=0.35, color=color)
        medians = [np.median(values[sizes == size]) for size in unique]
        axes.plot(unique, medians, marker=marker, ms=5, color=color, label=labels[level])
    gaussian = GAUSSIAN / np.sqrt(unique)
    color = styles[names[GAUSSIAN_LEVEL]].color
    axes.plot(unique, gaussian, "--", marker="" if len(unique) > 1 else "_", ms=12, color=color)
    axes.set_xticks(unique, labels=[f"{size:.0f}" for size in unique])
    axes.minorticks_off()
    label_ends(axes)
    add_legend(
        figure,
        {
            "quantile of one matrix": {"marker": "o", "ls": "", "ms": 3, "alpha": 0.35},
            "median of a size; beside the name the fitted power of the size": {"marker": "o"},
            f"{GAUSSIAN_LEVEL:.0%} of a square Gaussian matrix: size^-0.5": {"ls": "--"},
        },
    )
    return figure


def _quantiles(spectra: Sequence[Spectrum], level: float) -> Floats:
    return np.array([spectrum.quantile(level) for spectrum in spectra])


def _label(spectra: Sequence[Spectrum], sizes: Floats, level: float) -> str:
    """The name of a curve, with its power of the size where there are several sizes."""
    power = fit_power(sizes, _quantiles(spectra, level))
    return f"{level:.0%}" if power is None else f"{level:.0%}: {power}"


def fit_power(sizes: Floats, values: Floats) -> str | None:
    """The power of the size with its 95% interval, as text; None for fewer than two sizes.

    The slope of the logarithms by least squares over matrices; the interval is the jackknife's
    over matrices, which one training run may make dependent.
    """
    if len(np.unique(sizes)) < 2:
        return None
    points = np.log(np.stack([sizes, values], axis=1))

    def slope(groups: list[Floats]) -> Floats:
        x, y = np.moveaxis(groups[0] - groups[0].mean(axis=1, keepdims=True), -1, 0)
        spread = np.square(x).sum(axis=1)
        slopes: Floats = np.full(len(x), np.nan)
        np.divide((x * y).sum(axis=1), spread, out=slopes, where=spread > 1e-12)
        return slopes

    estimate = jackknife([points], slope)
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
