"""What the figures of studies share: style, colours, panels that wrap, and a key beneath them."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from textwrap import fill
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memsolve.engine import Point, Summary
from memsolve.report.names import short

WIDE, NARROW = 11.0, 4.4
"""Inches across a page on a desk and on a phone."""

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
"""As many as share no factor with the number of colours, so that 88 pairs of both differ."""

GRAY = "#595959"
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.labelsize": 9,
    "grid.alpha": 0.25,
    "figure.figsize": (WIDE, 4.4),
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "memsolve",  # the same study, the same file
    "svg.fonttype": "none",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
"""Of figures for a desk. The width of `figure.figsize` is that of the page, here and below."""

CROWD = 8
"""So many optimizers in a panel, and no more, leave room for bands and lines beside each curve."""

P = TypeVar("P", bound=Point)
K = TypeVar("K", bound=Hashable)
Bar = tuple[float, float, float]
"""A value and the ends of its bar."""


@contextmanager
def style(width: float) -> Iterator[None]:
    """Draw by `STYLE` alone on a page of so many inches: no `matplotlibrc` changes a figure."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"figure.figsize": (width, STYLE["figure.figsize"][1])})
        yield


class Look(NamedTuple):
    """What tells an optimizer from the others in a panel."""

    color: str
    marker: str


def plain(label: str) -> str:
    """A label as matplotlib should show it: no mathematics, and not hidden for an underscore."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


def optimizers(summary: Summary[P]) -> list[str]:
    """The optimizers of a study, in order."""
    return list(dict.fromkeys(fit.optimizer for fit in summary.fits))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, by its place."""
    return {
        name: Look(COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(names)
    }


def shades(ordered: Iterable[K]) -> dict[K, Any]:
    """A shade for each, from dark to light, for what has an order, as `d` has."""
    values = list(ordered)
    colors = mpl.colormaps["viridis"](np.linspace(0.1, 0.8, len(values)))
    return dict(zip(values, colors, strict=True))


def key_of_dims(shade: Mapping[int, Any]) -> dict[str, dict[str, Any]]:
    """What `key` says of shades of `d`."""
    return {f"d = {dim}": {"color": color, "marker": "s", "ls": ""} for dim, color in shade.items()}


def key_of_absent(
    names: Iterable[str], why: str = "nothing above 0 to draw"
) -> dict[str, dict[str, Any]]:
    """What `key` says of those of which there is nothing to draw."""
    absent = ", ".join(dict.fromkeys(names))
    return {f"{why}: {absent}": {"ls": ""}} if absent else {}


def dims(summary: Summary[P]) -> list[int]:
    """Every `d` of a study, increasing."""
    return sorted({point.dim for fit in summary.fits for point in fit.points})


def panels(
    titles: Mapping[K, str],
    *,
    size: tuple[float, float],
    axes: tuple[str, str],
    share: tuple[bool, bool] = (False, True),
) -> tuple[Figure, dict[K, Axes]]:
    """A figure with a panel for each title, as many in a row as the page has room for.

    Args:
        titles: of the panels, in order.
        size: least width of a panel, unless the page is narrower, and height, both in inches.
        axes: titles of the horizontal and of the vertical axis.
        share: whether all panels have one horizontal, and one vertical, axis.
    """
    width, height = size
    page = float(mpl.rcParams["figure.figsize"][0])
    columns = max(1, min(len(titles), int(page / width)))
    rows = math.ceil(len(titles) / columns)
    across = min(page / columns, 1.3 * width)
    figure = Figure(figsize=(across * columns, height * rows), layout="constrained")
    sharex, sharey = share
    places = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for spare in places[len(titles) :]:
        spare.remove()
    found = dict(zip(titles, places, strict=False))
    for panel, title in zip(found.values(), titles.values(), strict=True):
        whole = title.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
        lines = [fill(line, int(13 * across)) for line in whole.split("\n")]
        panel.set_title("\n".join(lines), fontsize=9, loc="left")
    for panel in places[: len(titles) : columns]:
        panel.set_ylabel(fill(axes[1], int(13 * height)))
    for panel in places[max(0, len(titles) - columns) : len(titles)]:  # nothing is beneath these
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(fill(axes[0], int(12 * across)))
    return figure, found


def titles_of_alpha(summary: Summary[P]) -> dict[float, str]:
    """A title an alpha."""
    return {alpha: f"alpha = {alpha:g}" for alpha in sorted({fit.alpha for fit in summary.fits})}


def titles_by_optimizer(
    summary: Summary[P], more: Callable[[list[P]], str]
) -> dict[tuple[float, str], str]:
    """A title an alpha and optimizer, with a line more, which is made of the points."""
    names = short(optimizers(summary))
    return {
        (fit.alpha, fit.optimizer): f"{plain(names[fit.optimizer])}, alpha = {fit.alpha:g}\n"
        f"({more(fit.points)})"
        for fit in summary.fits
    }


def panel_size(count: int) -> tuple[float, float]:
    """Width and height of one of so many panels, in inches."""
    return (3.5, 3.4) if count <= CROWD else (2.15, 2.7)


def key(figure: Figure, meanings: Mapping[str, Mapping[str, Any]]) -> None:
    """Say what the marks of a figure mean, beneath its panels, where it covers nothing.

    Args:
        figure: has its panels.
        meanings: what a mark means, with the mark, as arguments of `matplotlib.lines.Line2D`.
    """
    room = int(14 * figure.get_figwidth())  # in letters, of which a mark takes 7
    words = [fill(meaning, room - 7) for meaning in meanings]
    lengths = [7 + len(line) for text in words for line in text.splitlines()]
    columns = len(words) if sum(lengths) <= room else room // max(lengths)
    marks = [Line2D([], [], **{"color": GRAY, **mark}) for mark in meanings.values()]
    figure.legend(
        marks,
        words,
        loc="outside lower left",
        ncols=columns,
        fontsize=8,
        columnspacing=1.5,
    )
