"""Curves in a panel, each labeled at its end: there is no legend, however many curves there are."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from memsolve.engine.results.estimate import COUNT, Scale, mean_bands
from memsolve.report.drawing import GRAY, MUTED, CurveStyle

Floats = NDArray[np.float64]

FONT_SIZE = 8
LINE_SPACING = 1.25 * FONT_SIZE / 72
"""Inches between two labels."""

LETTER_WIDTH = 0.6 * FONT_SIZE / 72
"""Inches."""

LABEL_X = 1.03
"""Left edge of the labels, in widths of the panel."""

OUTLIER = 3.0
"""Interquartile ranges from a quartile to an outlier."""

LEAST_REACH = {"log": 2.0, "symlog": 6.0}
LEAST_LINEAR_REACH = 100.0
"""The least distance from a quartile to an outlier: decades on a logarithmic axis, units on a
symmetrical one, which has two a decade, and multiples of the median size on a linear axis."""

LEAST_BAND_SEEDS = 3
"""The interval of fewer seeds is so wide that its band would hide the curves."""

MARGIN = 0.05
"""Between the outermost point of a panel and its edge, as a share of the range."""


class LabeledCurve(NamedTuple):
    """A curve of a panel that has a label.

    Attributes:
        name: the label.
        x, y: the visible points: finite, and positive where the axis is logarithmic.
        color, marker: of the curve.
    """

    name: str
    x: Floats
    y: Floats
    color: str
    marker: str


def labeled_curves(axes: Axes) -> list[LabeledCurve]:
    """The curves of a panel that have a label and at least one visible point."""
    curves = []
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
        if not isinstance(line, Line2D):
            continue
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        visible = np.isfinite(x) & np.isfinite(y)
        visible &= (x > 0) | (axes.get_xscale() != "log")
        visible &= (y > 0) | (axes.get_yscale() != "log")
        if visible.any():
            color, marker = to_hex(line.get_color()), str(line.get_marker())
            curves.append(LabeledCurve(name, x[visible], y[visible], color, marker))
    return curves


def draw_curve(
    axes: Axes,
    name: str,
    style: CurveStyle,
    x: Floats,
    middle: Floats,
    band: tuple[Floats, Floats] | None,
) -> None:
    """Draw a curve with a few markers, and a band around it.

    Args:
        axes: the panel.
        name: the label.
        style: color and marker.
        x: (T,).
        middle: (T,).
        band: its lower and upper edge, each (T,); None draws no band.
    """
    zorder = 1.8 if style.color == MUTED else 2
    axes.plot(
        x,
        middle,
        color=style.color,
        marker=style.marker,
        ms=4,
        markevery=0.3,
        label=name,
        zorder=zorder,
    )
    if band is not None:
        axes.fill_between(x, *band, color=style.color, alpha=0.15, lw=0)


def draw_mean(
    axes: Axes,
    name: str,
    style: CurveStyle,
    x: Floats,
    samples: Floats,
    *,
    scale: Scale = COUNT,
    with_band: bool = True,
) -> None:
    """Draw the mean over seeds, and its 95% interval as a band.

    Args:
        axes: the panel.
        name: the label.
        style: color and marker.
        x: (T,).
        samples: (T, S) by seed.
        scale: of the interval.
        with_band: whether there is room for a band; fewer than `LEAST_BAND_SEEDS` have none.
    """
    means, low, high = mean_bands(samples, scale)
    with_band = with_band and samples.shape[1] >= LEAST_BAND_SEEDS
    draw_curve(axes, name, style, x, means, (low, high) if with_band else None)


def band_legend(seeds: int) -> dict[str, dict[str, Any]]:
    """The entry of `add_legend` for the band of `draw_mean`, or why there is none."""
    if seeds >= LEAST_BAND_SEEDS:
        return {"95% interval over seeds": {"lw": 6, "alpha": 0.3}}
    return {f"too few seeds for intervals: {seeds}": {"ls": ""}}


def label_ends(axes: Axes) -> None:
    """Label every curve at its end, to the right of the panel, without overlap.

    Labels are in the order of the ends; of curves with equal ends the one with the higher mean is
    above. The limits of the panel must be final, and its height at least `panel_height`.
    """
    curves = sorted(labeled_curves(axes), key=lambda curve: (curve.y[-1], curve.y.mean()))
    if not curves:
        return
    figure = axes.get_figure()
    assert figure is not None
    axes.autoscale_view()
    bottom, top = sorted(axes.get_ylim())
    ends = np.array([(curve.x[-1], np.clip(curve.y[-1], bottom, top)) for curve in curves])
    heights = axes.transAxes.inverted().transform(axes.transData.transform(ends))[:, 1]
    # The layout is computed when the figure is drawn; the panel is not lower then than it is now.
    gap = LINE_SPACING * figure.dpi / axes.get_window_extent().height
    marker_transform = offset_copy(axes.transAxes, figure, x=FONT_SIZE / 2, units="points")  # type: ignore[arg-type]
    leader = {"arrowstyle": "-", "lw": 0.8, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)}
    for curve, end, height in zip(curves, ends, spread(heights, gap), strict=True):
        axes.annotate(
            f"   {curve.name}",
            xy=tuple(end),
            xytext=(LABEL_X, height),
            textcoords="axes fraction",
            va="center",
            fontsize=FONT_SIZE,
            color=GRAY if curve.color == MUTED else "black",
            annotation_clip=False,
            arrowprops=leader | {"color": curve.color},
        )
        axes.plot(
            LABEL_X,
            height,
            marker=curve.marker,
            ms=4,
            color=curve.color,
            transform=marker_transform,
            clip_on=False,
        )


def label_panels(panels: Iterable[Axes]) -> dict[str, dict[str, Any]]:
    """Label every curve of every panel at its end, on axes that no outlier stretches.

    Panels that share a vertical axis get one scale. Where some curve leaves it, as one of a run
    that diverged, an arrow at the edge marks where.

    Returns:
        Entries of `add_legend`: that of the arrow, if there is one.
    """
    every = list(panels)
    groups: dict[frozenset[Axes], list[Axes]] = {}
    for axes in every:
        siblings = frozenset(axes.get_shared_y_axes().get_siblings(axes))
        groups.setdefault(siblings, []).append(axes)
    clipped = [clip_outliers(group) for group in groups.values()]  # labels need final limits
    for axes in every:
        label_ends(axes)
    return {"beyond the panel": {"marker": "^", "ls": "", "ms": 5}} if any(clipped) else {}


def clip_outliers(group: Sequence[Axes]) -> bool:
    """Limit a vertical axis to what is no outlier, and mark the curves that leave it.

    An outlier is farther than three interquartile ranges outside of the quartiles of all points
    (Tukey 1977, *Exploratory data analysis*: "far out"), and than `LEAST_REACH`, on the scale of
    the axis. An axis whose limits were set is left as it is.

    Args:
        group: panels that share the axis.

    Returns:
        Whether some curve has an outlier.
    """
    curves = [(axes, curve) for axes in group for curve in labeled_curves(axes)]
    if not curves or not curves[0][0].get_autoscaley_on():
        return False
    scale = curves[0][0].yaxis.get_transform()
    heights = [scale.transform(curve.y) for _, curve in curves]
    low, high = _fences(np.concatenate(heights), curves[0][0].get_yscale())
    outliers = [(values < low) | (values > high) for values in heights]
    if not any(each.any() for each in outliers):
        return False
    inside = np.concatenate(heights)[~np.concatenate(outliers)]
    margin = MARGIN * max(np.ptp(inside), 1e-9)
    limits = np.array([inside.min() - margin, inside.max() + margin])
    curves[0][0].set_ylim(*scale.inverted().transform(limits))
    for (axes, curve), values, outside in zip(curves, heights, outliers, strict=True):
        for marker, beyond in (("^", values > high), ("v", values < low)):
            if (outside & beyond).any():
                place = curve.x[np.argmax(outside & beyond)], 0.98 if marker == "^" else 0.02
                across = axes.get_xaxis_transform()
                axes.plot(*place, marker, ms=5, color=curve.color, transform=across)
    return True


def _fences(values: Floats, scale: str) -> tuple[float, float]:
    """Where outliers begin, below and above."""
    first, third = np.quantile(values, [0.25, 0.75])
    sizes = np.abs(values[values != 0])
    typical = float(np.median(sizes)) if sizes.size else 0.0
    least = LEAST_REACH.get(scale, LEAST_LINEAR_REACH * typical)
    reach = max(OUTLIER * (third - first), least)
    return float(first - reach), float(third + reach)


def spread(heights: Floats, gap: float) -> Floats:
    """The nearest heights that are at least `gap` apart, within [0, 1] if there is room.

    Nearest in least squares. After subtraction of the gaps the heights must not decrease in their
    order, so that isotonic regression solves the problem.
    """
    order = np.argsort(heights, kind="stable")
    gaps = gap * np.arange(len(heights))
    levels = isotonic_regression(heights[order] - gaps).x
    room = 1 - gaps[-1]
    spaced = np.empty(len(heights))
    spaced[order] = np.clip(levels, min(0, room / 2), max(room, room / 2)) + gaps
    return spaced


def panel_height(num_names: int, least: float) -> float:
    """Inches of a panel that has room for so many labels, and at least `least`."""
    return max(least, 1.4 * LINE_SPACING * num_names + 0.5)


def panel_width(names: list[str], curve_width: float) -> float:
    """Inches of a panel with curves of some width and their names next to them."""
    return curve_width + LETTER_WIDTH * (4 + max(map(len, names)))
