"""A quantity against a setting of the optimizers that a study varies."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.engine.results.estimate import ErrorBar
from memsolve.engine.results.summary import P
from memsolve.optimizers.choices import OptimizerError
from memsolve.optimizers.registry import parse
from memsolve.report.curves import label_panels, panel_height, panel_width
from memsolve.report.drawing import (
    CurveStyle,
    add_legend,
    alpha_titles,
    create_panels,
    curve_styles,
    dims,
    escape_mathtext,
)
from memsolve.report.names import shorten_names

LEAST_VALUES = 3
"""Values of a setting that make a curve."""

DECADE = 10
"""From this ratio of the largest to the smallest value on the axis is logarithmic."""

Panels = Mapping[str, Mapping[str, ErrorBar]]
"""By title of a panel and optimizer, a mean with its 95% interval."""

Curves = dict[str, dict[float, str]]
"""By name of a curve, the optimizer at each value of the setting."""


class SweptSetting(NamedTuple):
    """A numeric setting that optimizers differ in.

    Attributes:
        key: its name, as `lr`.
        curves: optimizers that differ in it alone.
    """

    key: str
    curves: Curves


def swept_settings(names: list[str]) -> list[SweptSetting]:
    """Settings that take at least three numeric values while all others are the same."""
    curves: dict[str, dict[str, dict[float, str]]] = {}
    for name in names:
        with suppress(OptimizerError):
            path, settings = parse(name)
            for key, value in settings.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    others = [f"{other}={settings[other]}" for other in settings if other != key]
                    curve = ":".join([path, *others])
                    curves.setdefault(key, {}).setdefault(curve, {})[float(value)] = name
    long = {
        key: {curve: by_value for curve, by_value in each.items() if len(by_value) >= LEAST_VALUES}
        for key, each in curves.items()
    }
    return [SweptSetting(key, each) for key, each in long.items() if each]


def sweep_figures(study: str, quantity: str, panels: Panels) -> dict[str, Figure]:
    """A figure for each swept setting, by file name; none without one.

    Args:
        study: its name, the beginning of file names.
        quantity: title of the vertical axis.
        panels: the estimates to be drawn.
    """
    names = dict.fromkeys(name for bars in panels.values() for name in bars)
    return {
        f"{study}-against-{setting.key}": _sweep_figure(setting, quantity, panels)
        for setting in swept_settings(list(names))
    }


def point_bars(summary: Summary[P], bar: Callable[[P], ErrorBar | None]) -> Panels:
    """A panel for each alpha and `d`.

    Args:
        summary: of a study.
        bar: mean and 95% interval of a point, or None where it is not identified.
    """
    panels: dict[str, dict[str, ErrorBar]] = {}
    for alpha, title in alpha_titles(summary).items():
        for dim in dims(summary):
            bars = panels[f"{title}, d = {dim}"] = {}
            for fit in summary.fits:
                for point in fit.points:
                    if (fit.alpha, point.dim) == (alpha, dim) and (each := bar(point)) is not None:
                        bars[fit.optimizer] = each
    return panels


def _sweep_figure(setting: SweptSetting, quantity: str, bars: Panels) -> Figure:
    """In each panel a curve for optimizers that differ in the setting alone."""
    names = shorten_names(setting.curves)
    styles = curve_styles(names)
    figure, panels = create_panels(
        {title: title for title in bars},
        size=(panel_width([*names.values()], 2.2), panel_height(len(names), 3)),
        axes=(setting.key, quantity),
    )
    for title, axes in panels.items():
        for name, by_value in setting.curves.items():
            points = {
                value: bars[title][optimizer]
                for value, optimizer in sorted(by_value.items())
                if optimizer in bars[title]
            }
            if points:
                _draw(axes, escape_mathtext(names[name]), styles[name], points)
    values = [value for by_value in setting.curves.values() for value in by_value]
    for axes in panels.values():  # after all curves: the panels share their limits
        _set_scale(axes, values)
    meanings: dict[str, dict[str, Any]] = {
        "mean and 95% interval over seeds": {"marker": "o", "ls": "-"}
    }
    add_legend(figure, meanings | label_panels(panels.values()))
    return figure


def _draw(axes: Axes, name: str, style: CurveStyle, points: Mapping[float, ErrorBar]) -> None:
    values, lows, highs = np.array([*points.values()]).T
    errors = np.clip([values - lows, highs - values], 0, None)
    axes.errorbar(
        [*points],
        values,
        errors,
        marker=style.marker,
        ms=4,
        capsize=2,
        color=style.color,
        label=name,
    )


def _set_scale(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis for positive values of more than a decade; counts from 0."""
    if min(values) > 0 and max(values) >= DECADE * min(values):
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
