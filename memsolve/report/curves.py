"""Curves in a panel, each with its name where it ends: no legend, whatever their number."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from memsolve.report.drawing import Look

Floats = NDArray[np.float64]

FONT = 8
LINE = 1.25 * FONT / 72
"""Inches between the names of two curves."""

BESIDE = 1.03
"""Where names begin, in widths of the panel."""

LETTER = 0.6 * FONT / 72
"""Inches of a letter of a name."""


class Named(NamedTuple):
    """A curve of a panel that has a name.

    Attributes:
        name: as it is shown.
        x, y: what is drawn of it: finite, and positive where the axis is logarithmic.
        color, marker: of the curve.
    """

    name: str
    x: Floats
    y: Floats
    color: str
    marker: str


def named(axes: Axes) -> list[Named]:
    """The curves of a panel that have names and anything to see."""
    found = []
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
        if not isinstance(line, Line2D):
            continue
        x, y = (np.asarray(values, dtype=float) for values in line.get_data())
        seen = np.isfinite(x) & np.isfinite(y)
        seen &= (x > 0) | (axes.get_xscale() != "log")
        seen &= (y > 0) | (axes.get_yscale() != "log")
        if seen.any():
            found.append(
                Named(name, x[seen], y[seen], to_hex(line.get_color()), str(line.get_marker()))
            )
    return found


def curve(
    axes: Axes, name: str, look: Look, x: Floats, middle: Floats, band: tuple[Floats, Floats] | None
) -> None:
    """Draw a curve with a few markers on its way, and a band around it.

    Args:
        axes: the panel.
        name: as it is shown.
        look: colour and marker.
        x: (T,).
        middle: (T,).
        band: its lower and upper edge, each (T,).
    """
    axes.plot(x, middle, color=look.color, marker=look.marker, ms=4, markevery=0.3, label=name)
    if band is not None:
        axes.fill_between(x, *band, color=look.color, alpha=0.15, lw=0)


def label_ends(axes: Axes) -> None:
    """Write the name of every curve beside its end, outside of the panel, one above the other.

    Of curves that end alike the one that was higher on its way is above. The limits of the panel
    are final, and it is at least as high as `height` says.
    """
    curves = sorted(named(axes), key=lambda one: (one.y[-1], one.y.mean()))
    if not curves:
        return
    figure = axes.get_figure()
    assert figure is not None
    axes.autoscale_view()
    ends = np.array([(one.x[-1], one.y[-1]) for one in curves])
    places = axes.transAxes.inverted().transform(axes.transData.transform(ends))[:, 1]
    # The layout is made when the figure is drawn; the panel is not lower then than it is now.
    gap = LINE * figure.dpi / axes.get_window_extent().height
    beside = offset_copy(axes.transAxes, figure, x=FONT / 2, units="points")  # type: ignore[arg-type]
    leader = {"arrowstyle": "-", "lw": 0.8, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)}
    for one, end, place in zip(curves, ends, spread(places, gap), strict=True):
        axes.annotate(
            f"   {one.name}",
            xy=tuple(end),
            xytext=(BESIDE, place),
            textcoords="axes fraction",
            va="center",
            fontsize=FONT,
            annotation_clip=False,
            arrowprops=leader | {"color": one.color},
        )
        axes.plot(
            BESIDE,
            place,
            marker=one.marker,
            ms=4,
            color=one.color,
            transform=beside,
            clip_on=False,
        )


def spread(heights: Floats, gap: float) -> Floats:
    """The heights nearest to those given that are `gap` apart, in [0, 1] as far as there is room.

    Least squares: with the gaps taken off, the heights in their order must not fall, which is what
    isotonic regression finds.
    """
    order = np.argsort(heights, kind="stable")
    gaps = gap * np.arange(len(heights))
    level = isotonic_regression(heights[order] - gaps).x
    room = 1 - gaps[-1]
    placed = np.empty(len(heights))
    placed[order] = np.clip(level, min(0, room / 2), max(room, room / 2)) + gaps
    return placed


def height(count: int, least: float) -> float:
    """Inches of a panel in which so many names find room."""
    return max(least, 1.4 * LINE * count + 0.5)


def width(names: list[str], least: float) -> float:
    """Inches of a panel whose curves want so much, and whose names stand beside them."""
    return least + LETTER * (4 + max(map(len, names)))
