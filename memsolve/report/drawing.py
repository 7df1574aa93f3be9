"""Elements that the figures of all studies share: style, colors, panels, and legends."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from textwrap import fill
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memsolve.engine import Summary
from memsolve.engine.results.estimate import ErrorBar
from memsolve.engine.results.summary import P
from memsolve.report.names import shorten_names

DESKTOP_WIDTH, PHONE_WIDTH = 11.0, 4.4
"""Inches of the page."""

COLORS = (
    "#c0504d",
    "#1f5fa8",
    "#3a8f5c",
    "#8064a2",
    "#d98e1f",
    "#3aa6a6",
    "#7f7f7f",
    "#b5578f",
)
MARKERS = "os^Dv<>PXp*"
"""Their number is coprime to the number of colors, so that 88 pairs of both differ."""

GRAY = "#595959"
MUTED = "#a6a6a6"
"""Of the curves that a large figure does not emphasize."""
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.labelsize": 9,
    "grid.alpha": 0.25,
    "figure.figsize": (DESKTOP_WIDTH, 4.4),
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "memsolve",  # the same study gives the same file
    "svg.fonttype": "none",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
"""Settings of matplotlib. The width in `figure.figsize` is that of the page."""

MAX_BANDS = 8
"""A panel with more optimizers has no room for bands and further lines next to the curves."""

MARK_WIDTH = 7
"""Letters that have the width of a mark in a legend."""

K = TypeVar("K", bound=Hashable)


@contextmanager
def figure_style(width: float) -> Iterator[None]:
    """Draw with `STYLE` on a page of that many inches, whatever `matplotlibrc` says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"figure.figsize": (width, STYLE["figure.figsize"][1])})
        yield


class CurveStyle(NamedTuple):
    """Color and marker, which distinguish the optimizers of a panel."""

    color: str
    marker: str


def escape_mathtext(label: str) -> str:
    """A label that matplotlib shows literally: no mathematics, no leading underscore to hide it."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


def optimizers(summary: Summary[P]) -> list[str]:
    """The optimizers of a study, in order."""
    return list(dict.fromkeys(fit.optimizer for fit in summary.fits))


def curve_styles(names: Iterable[str]) -> dict[str, CurveStyle]:
    """A style for each name, by its position."""
    return {
        name: CurveStyle(COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)])
        for index, name in enumerate(names)
    }


def shades(ordered: Iterable[K]) -> dict[K, Any]:
    """A shade for each of ordered values, such as `d`, from dark to light."""
    values = list(ordered)
    colors = mpl.colormaps["viridis"](np.linspace(0.1, 0.8, len(values)))
    return dict(zip(values, colors, strict=True))


def dims_legend(shade: Mapping[int, Any]) -> dict[str, dict[str, Any]]:
    """Entries of `add_legend` for shades of `d`."""
    return {f"d = {dim}": {"color": color, "marker": "s", "ls": ""} for dim, color in shade.items()}


def missing_legend(
    names: Iterable[str], why: str = "nothing above 0 to draw"
) -> dict[str, dict[str, Any]]:
    """The entry of `add_legend` that lists what is not drawn; none if there are no names."""
    missing = ", ".join(dict.fromkeys(names))
    return {f"{why}: {missing}": {"ls": ""}} if missing else {}


def dims(summary: Summary[P]) -> list[int]:
    """Every `d` of a study, increasing."""
    return sorted({point.dim for fit in summary.fits for point in fit.points})


def create_panels(
    titles: Mapping[K, str],
    *,
    size: tuple[float, float],
    axes: tuple[str, str],
    share: tuple[bool, bool | Literal["row"]] = (False, True),
) -> tuple[Figure, dict[K, Axes]]:
    """A figure with a panel for each title, as many in a row as fit on the page.

    Args:
        titles: of the panels, in order.
        size: least width of a panel, unless the page is narrower, and height, both in inches.
        axes: titles of the horizontal and of the vertical axis.
        share: whether the panels share their horizontal, and their vertical, axis; the latter also
            only within a row.
    """
    width, height = size
    page_width = float(mpl.rcParams["figure.figsize"][0])
    columns = max(1, min(len(titles), int(page_width / width)))
    rows = math.ceil(len(titles) / columns)
    column_width = min(page_width / columns, 1.3 * width)
    figure = Figure(figsize=(column_width * columns, height * rows), layout="constrained")
    sharex, sharey = share
    every = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for spare in every[len(titles) :]:
        spare.remove()
    panels = dict(zip(titles, every, strict=False))
    for panel, title in zip(panels.values(), titles.values(), strict=True):
        unbroken = title.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
        lines = [fill(line, int(13 * column_width)) for line in unbroken.split("\n")]
        panel.set_title("\n".join(lines), fontsize=9, loc="left")
    for panel in every[: len(titles) : columns]:
        panel.set_ylabel(fill(axes[1], int(13 * height)))
    for panel in every[max(0, len(titles) - columns) : len(titles)]:  # the lowest of each column
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(fill(axes[0], int(12 * column_width)))
    return figure, panels


def alpha_titles(summary: Summary[P]) -> dict[float, str]:
    """Titles of panels, one for each alpha."""
    return {alpha: f"alpha = {alpha:g}" for alpha in sorted({fit.alpha for fit in summary.fits})}


def optimizer_titles(
    summary: Summary[P], second_line: Callable[[list[P]], str]
) -> dict[tuple[float, str], str]:
    """Titles of panels, one for each alpha and optimizer, with a second line about the points."""
    names = shorten_names(optimizers(summary))
    return {
        (fit.alpha, fit.optimizer): (
            f"{escape_mathtext(names[fit.optimizer])}, alpha = {fit.alpha:g}\n"
            f"({second_line(fit.points)})"
        )
        for fit in summary.fits
    }


def panel_size(num_panels: int) -> tuple[float, float]:
    """Width and height of one of so many panels, in inches."""
    return (3.5, 3.4) if num_panels <= MAX_BANDS else (2.15, 2.7)


def draw_estimate(axes: Axes, bar: ErrorBar, height: float, marker: str, color: Any) -> None:
    """Draw an estimate on the horizontal axis with its interval, above all curves."""
    value, low, high = bar
    axes.errorbar(
        value,
        height,
        xerr=[[value - low], [high - value]],
        fmt=marker,
        ms=7,
        mfc="white",
        mew=1.5,
        capsize=3,
        color=color,
        zorder=3,
    )


def add_legend(figure: Figure, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Explain the marks of a figure below its panels, where the legend covers nothing.

    Args:
        figure: has its panels.
        entries: by their text, marks as arguments of `matplotlib.lines.Line2D`.
    """
    page_letters = int(14 * figure.get_figwidth())
    texts = [fill(text, page_letters - MARK_WIDTH) for text in entries]
    lengths = [MARK_WIDTH + len(line) for text in texts for line in text.splitlines()]
    columns = len(texts) if sum(lengths) <= page_letters else page_letters // max(lengths)
    marks = [Line2D([], [], **{"color": GRAY, **mark}) for mark in entries.values()]
    figure.legend(
        marks,
        texts,
        loc="outside lower left",
        ncols=columns,
        fontsize=8,
        columnspacing=1.5,
    )
