"""What a figure shows, in words, for those who do not see it."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.report.curves import named
from memsolve.report.words import number

AXES = "get_xlabel", "get_ylabel"

PANELS, CURVES = 6, 6
"""As many are told; of more, the table has the numbers."""


def describe(figure: Figure) -> str:
    """Where the curves of each panel begin and end, the highest first; then what the marks mean.

    A figure that knows better has its words as its label (`figure.set_label`); of one whose curves
    have no labels nothing is said.
    """
    if said := figure.get_label():
        return str(said)
    x, y = (_first(getattr(axes, name)() for axes in figure.axes) for name in AXES)
    told = [words for panel in figure.axes if (words := _panel(panel))]
    if len(told) > PANELS:
        told[PANELS:] = [f"{len(told) - PANELS} more panels; the table has their numbers."]
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    meanings = f"Marks: {'; '.join(texts)}." if texts else ""
    said = " ".join([f"{y} against {x}." if x and y else "", *told, meanings])
    return " ".join(said.replace(r"\$", "$").split())


def _first(words: Iterable[str]) -> str:
    return next(filter(None, words), "")


def _panel(axes: Axes) -> str:
    """The curves of a panel in words; empty where none has a name."""
    curves = sorted(named(axes), key=lambda curve: -curve.y[-1])
    said = [
        f"{curve.name}, from {number(curve.y[0])} at {number(curve.x[0])} to "
        f"{number(curve.y[-1])} at {number(curve.x[-1])}"
        for curve in curves
    ]
    if len(said) > CURVES:
        said[CURVES - 1 : -1] = [f"{len(said) - CURVES} more between"]
    title = axes.get_title(loc="left") or axes.get_title()
    return f"{title or 'It shows'}: {'; '.join(said)}." if said else ""
