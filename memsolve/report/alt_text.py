"""Descriptions of figures in words, for readers who do not see them."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.report.curves import labeled_curves
from memsolve.report.formatting import format_number

LABEL_GETTERS = "get_xlabel", "get_ylabel"

MAX_PANELS, MAX_CURVES = 6, 6
"""A description covers at most this many; the table has the numbers of the others."""


def describe(figure: Figure) -> str:
    """Where the curves of each panel begin and end, the highest first, and what the marks mean.

    A figure with a label (`figure.set_label`) is described by its label instead. A figure whose
    curves have no labels has an empty description.
    """
    if label := figure.get_label():
        return str(label)
    x, y = axis_titles(figure)
    panels = [text for axes in figure.axes if (text := _describe_panel(axes))]
    if len(panels) > MAX_PANELS:
        panels[MAX_PANELS:] = [
            f"{len(panels) - MAX_PANELS} more panels; the table has their numbers."
        ]
    entries = f"Marks: {explained}." if (explained := marks(figure)) else ""
    description = " ".join([f"{y} against {x}." if x and y else "", *panels, entries])
    return _on_one_line(description)


def axis_titles(figure: Figure) -> tuple[str, str]:
    """The first title of a horizontal and of a vertical axis; empty without any."""
    x, y = (
        _first_nonempty(getattr(axes, getter)() for axes in figure.axes) for getter in LABEL_GETTERS
    )
    return _on_one_line(x), _on_one_line(y)


def marks(figure: Figure) -> str:
    """The entries of the legend of a figure; empty without one."""
    entries = (text.get_text() for legend in figure.legends for text in legend.get_texts())
    return _on_one_line("; ".join(entries))


def _on_one_line(text: str) -> str:
    return " ".join(text.replace(r"\$", "$").split())


def _first_nonempty(texts: Iterable[str]) -> str:
    return next(filter(None, texts), "")


def _describe_panel(axes: Axes) -> str:
    """The labeled curves of a panel in words; empty without any."""
    curves = sorted(labeled_curves(axes), key=lambda curve: -curve.y[-1])
    texts = [
        f"{curve.name}, from {format_number(curve.y[0])} at {format_number(curve.x[0])} to "
        f"{format_number(curve.y[-1])} at {format_number(curve.x[-1])}"
        for curve in curves
    ]
    if len(texts) > MAX_CURVES:
        texts[MAX_CURVES - 1 : -1] = [f"{len(texts) - MAX_CURVES} more between"]
    title = axes.get_title(loc="left") or axes.get_title()
    return f"{title or 'It shows'}: {'; '.join(texts)}." if texts else ""
