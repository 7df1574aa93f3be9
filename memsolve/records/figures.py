"""The figures of an entry's page: its problems among all entries', and items against steps."""

from collections.abc import Mapping, Sequence
from io import StringIO

import numpy as np
from markupsafe import escape
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memsolve.engine.results.estimate import mean
from memsolve.records.tables import Entry, counts, format_setting
from memsolve.report.alt_text import describe
from memsolve.report.curves import draw_curve, label_ends, panel_height, panel_width
from memsolve.report.drawing import (
    COLORS,
    DESKTOP_WIDTH,
    PHONE_WIDTH,
    add_legend,
    create_panels,
    curve_styles,
    figure_style,
)
from memsolve.study.leaderboard.tracks import TRACKS, Problem, marks_of

LIMIT = "d² / (2 ln N)"
SHARE = f"items as a share of {LIMIT}"


def pictures(entry: Entry, entries: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """The figures of an entry as SVG elements, by caption, for a desktop and for a phone."""
    others = [counts(each) for each in entries if each is not entry]
    wide, narrow = (dict(_draw(entry, others, width)) for width in (DESKTOP_WIDTH, PHONE_WIDTH))
    return {caption: (svg, narrow[caption]) for caption, svg in wide.items()}


def _draw(
    entry: Entry, others: Sequence[Mapping[Problem, list[int]]], width: float
) -> list[tuple[str, str]]:
    with figure_style(width):
        figures = [
            (
                "Each problem, with its 95% interval over seeds; in grey the other entries.",
                _draw_problems(entry, others),
            ),
            ("Items against steps, mean over seeds.", _draw_curves(entry)),
        ]
        return [
            (caption, to_svg(figure, f"{width:g}-{number}-"))
            for number, (caption, figure) in enumerate(figures)
            if figure is not None
        ]


def _draw_problems(entry: Entry, others: Sequence[Mapping[Problem, list[int]]]) -> Figure:
    """A row for every problem: the share of `theory.limit` of this entry and of the others."""
    recovered = counts(entry)
    by_track = {
        track: [problem for problem in recovered if problem.track == track] for track in TRACKS
    }
    titles = {track: track.replace("-", " ") for track in by_track if by_track[track]}
    most = max(len(by_track[track]) for track in titles)
    size = 3.4, 0.24 * most + 1.1
    figure, panels = create_panels(titles, size=size, axes=(SHARE, ""), share=(True, False))
    for track, axes in panels.items():
        rows = dict(enumerate(by_track[track]))
        marks = [
            (float(np.mean(each[problem])) / problem.limit, row)
            for row, problem in rows.items()
            for each in others
            if problem in each
        ]
        axes.plot(*zip(*marks, strict=True) if marks else ((), ()), "|", ms=9, color="#9a9a9a")
        bars = np.array([_bar(recovered[problem]) / problem.limit for problem in rows.values()])
        errors = [bars[:, 0] - bars[:, 1], bars[:, 2] - bars[:, 0]]
        axes.errorbar(bars[:, 0], [*rows], xerr=errors, fmt="o", ms=5, capsize=3, color=COLORS[1])
        axes.set_yticks([*rows], labels=[format_setting(problem) for problem in rows.values()])
        axes.set_ylim(len(rows) - 0.5, -0.5)
    for axes in panels.values():
        axes.set_xlim(left=0)
    texts = [f"{each}: {mean(seeds)}" for each, seeds in recovered.items() if each.track in panels]
    figure.set_label(f"Items recovered, mean over seeds: {'; '.join(texts)}.")
    return figure


def _bar(recovered: Sequence[int]) -> NDArray[np.float64]:
    """(3,) the mean over seeds and the ends of its interval."""
    return np.array(mean(recovered).bar)


def _draw_curves(entry: Entry) -> Figure | None:
    """Shares of `theory.limit` against steps, a panel for each track with several steps."""
    curves: dict[str, list[tuple[Problem, list[float]]]] = {}
    for fit in entry.fits:
        for point in fit.points:
            for problem, curve in zip(point.problems(fit.alpha), point.curves, strict=True):
                if len(curve) > 1:
                    curves.setdefault(problem.track, []).append((problem, curve))
    if not curves:
        return None
    titles = {track: track.replace("-", " ") for track in TRACKS if track in curves}
    labels = [format_setting(problem) for each in curves.values() for problem, _ in each]
    most = max(map(len, curves.values()))
    size = panel_width(labels, 2.4), panel_height(most, 3.0)
    figure, panels = create_panels(titles, size=size, axes=("step", SHARE), share=(False, False))
    for track, axes in panels.items():
        styles = curve_styles([format_setting(problem) for problem, _ in curves[track]])
        for problem, curve in curves[track]:
            label = format_setting(problem)
            steps = np.array(marks_of(problem.steps)[: len(curve)], dtype=float)
            shares = np.array(curve) / problem.limit
            draw_curve(axes, label, styles[label], steps, shares, None)
        axes.axhline(1, color="black", lw=0.8, ls="--")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
        label_ends(axes)
    add_legend(figure, {f"{LIMIT} (derived scale)": {"color": "black", "lw": 0.8, "ls": "--"}})
    return figure


def to_svg(figure: Figure, prefix: str) -> str:
    """A figure as an SVG element with its description, the same for the same figure.

    Args:
        figure: to be drawn.
        prefix: of its ids, unique on the page.
    """
    buffer = StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for reference in (' id="', "url(#", 'xlink:href="#'):
        text = text.replace(reference, reference + prefix)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(describe(figure))}"', 1)
