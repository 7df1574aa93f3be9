"""Figures of a comparison: ranks, groups, and differences to a baseline, a panel for each track."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memsolve.engine.results.estimate import Estimate
from memsolve.report.curves import LETTER_WIDTH
from memsolve.report.drawing import COLORS, GRAY, add_legend, create_panels, escape_mathtext
from memsolve.report.names import shorten_names
from memsolve.study.leaderboard.comparison import (
    Blocks,
    differences,
    groups,
    letters,
    rank_probabilities,
)

Tracks = Mapping[str, Blocks]
"""The blocks of each track, by its words."""

LIKELY = 0.95
"""The interval of a rank has at least this probability."""

ROW, WIDTH = 0.24, 1.85
"""Inches of the row of an optimizer, and of a panel without the names."""

OWN = COLORS[0]
"""Of the names of the user's optimizers."""

BAR, MAX_BARS = 0.04, 0.45
"""Widths of a panel between the bars of two groups, and of all bars together at most."""

SHADE = 0.85
"""Darkness of a rank that is certain."""


def rank_figure(tracks: Tracks, own: Collection[str] = ()) -> Figure:
    """The probability of each rank, and the interval of ranks, of every optimizer.

    Args:
        tracks: to be drawn.
        own: optimizers whose names are in color.
    """
    figure, panels = _panels(tracks, "rank", own)
    texts = []
    for words, track in tracks.items():
        axes, order = panels[words], track.order
        chances = rank_probabilities(track)
        rows = chances[[track.names.index(name) for name in order]]
        axes.imshow(rows, cmap="Greys", vmin=0, vmax=1 / SHADE, aspect="auto", extent=_extent(rows))
        intervals = [rank_interval(row) for row in rows]
        for row, (first, last) in enumerate(intervals):
            axes.plot([first, last], [row, row], "|-", color=OWN, lw=1.5, ms=7, mew=1.5)
        axes.set_xticks(_rank_ticks(len(order)))
        axes.grid(visible=False)
        ranks = zip(order, intervals, strict=True)
        texts.append(f"{words}: {'; '.join(f'{name} {a} to {b}' for name, (a, b) in ranks)}")
    add_legend(
        figure,
        {
            "probability of the rank, by resampling seeds; black is 1": {
                "marker": "s",
                "ls": "",
                "color": "black",
            },
            f"interval of ranks, {LIKELY:.0%}": {
                "marker": "|",
                "ls": "-",
                "color": OWN,
            },
        },
    )
    figure.set_label(f"Ranks that together have a probability of {LIKELY:.0%}. {'. '.join(texts)}.")
    return figure


def group_figure(
    tracks: Tracks,
    estimates: Mapping[str, Mapping[str, Estimate]],
    own: Collection[str] = (),
) -> Figure:
    """Scores, and a bar over the optimizers of each group that cannot be distinguished.

    Args:
        tracks: to be drawn.
        estimates: the scores with their intervals, by track and optimizer.
        own: optimizers whose names are in color.
    """
    figure, panels = _panels(tracks, "score, share of d² / (2 ln N)", own)
    texts = []
    for words, track in tracks.items():
        axes, order = panels[words], track.order
        grouped = groups(track, differences(track))
        display = letters(track, grouped)
        for row, name in enumerate(order):
            _draw_estimate(axes, row, estimates[words][name], "black")
        _draw_groups(axes, order, grouped)
        scores = (f"{name} {estimates[words][name]} {display[name]}" for name in order)
        texts.append(f"{words}: {'; '.join(scores)}")
    add_legend(
        figure,
        {
            "score, mean over problems, with its 95% interval over seeds": {
                "marker": "o",
                "ls": "-",
                "color": "black",
            },
            "optimizers that cannot be distinguished (p at least 0.05, Holm)": {
                "marker": "s",
                "ls": ":",
                "ms": 3.5,
                "color": GRAY,
            },
        },
    )
    figure.set_label(
        "Groups of optimizers; those that share a letter cannot be distinguished. "
        f"{'. '.join(texts)}."
    )
    return figure


def difference_figure(tracks: Tracks, baseline: str, own: Collection[str] = ()) -> Figure:
    """The differences of all scores to a baseline's, with simultaneous 95% intervals."""
    name = shorten_names([baseline])[baseline]
    figure, panels = _panels(tracks, f"score minus that of {escape_mathtext(name)}", own)
    texts = []
    for words, track in tracks.items():
        if baseline not in track.names:
            panels[words].text(0.5, 0.5, "no baseline", transform=panels[words].transAxes)
            continue
        pairs = [(name, baseline) for name in track.order if name != baseline]
        results = {each.first: each for each in differences(track, pairs)}
        for row, name in enumerate(track.order):
            if name in results:
                fill = "black" if results[name].is_significant else "white"
                _draw_estimate(panels[words], row, results[name].estimate, fill)
        panels[words].axvline(0, color="black", lw=0.8)
        estimates = (f"{name} {results[name].estimate}" for name in results)
        texts.append(f"{words}: {'; '.join(estimates)}")
    add_legend(
        figure,
        {
            "difference, simultaneous 95% interval over seeds; filled where p < 0.05 (Holm)": {
                "marker": "o",
                "ls": "-",
                "color": "black",
            },
            "not distinguished": {"marker": "o", "ls": "", "mfc": "white", "color": "black"},
        },
    )
    figure.set_label(f"Differences to {baseline}, with 95% intervals. {'. '.join(texts)}.")
    return figure


def rank_interval(chances: np.ndarray) -> tuple[int, int]:
    """The central ranks, from 1, that leave out at most 2.5% on either side."""
    cumulative = np.cumsum(chances)
    tail = (1 - LIKELY) / 2
    first = int(np.searchsorted(cumulative, tail, side="right"))
    last = int(np.searchsorted(cumulative, 1 - tail - 1e-9))
    return first + 1, min(last, len(chances) - 1) + 1


def _panels(tracks: Tracks, title: str, own: Collection[str]) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each track, with a row for each of its optimizers, the best at the top."""
    names = shorten_names(name for track in tracks.values() for name in track.names)
    width = WIDTH + LETTER_WIDTH * max(map(len, names.values()))
    height = ROW * max(len(track.names) for track in tracks.values()) + 1.0
    titles = {words: f"{words}: {track.memories} memories" for words, track in tracks.items()}
    figure, panels = create_panels(
        titles, size=(width, height), axes=(title, ""), share=(False, False)
    )
    for words, axes in panels.items():
        order = tracks[words].order
        labels = [escape_mathtext(names[name]) for name in order]
        axes.set_yticks(range(len(order)), labels=labels)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.tick_params(left=False)
        for name, text in zip(order, axes.get_yticklabels(), strict=True):
            text.set_color(OWN if name in own else "black")
    return figure, panels


def _extent(rows: np.ndarray) -> tuple[float, float, float, float]:
    count = len(rows)
    return 0.5, rows.shape[1] + 0.5, count - 0.5, -0.5


def _rank_ticks(count: int) -> list[int]:
    step = max(1, round(count / 8))
    return sorted({1, *range(step, count + 1, step)})


def _draw_groups(axes: Axes, order: list[str], grouped: Sequence[Sequence[str]]) -> None:
    """A bar over the rows of each group of several, to the right of all scores."""
    bars = [[order.index(name) for name in group] for group in grouped if len(group) > 1]
    share = min(MAX_BARS, BAR * (len(bars) + 1))
    most = axes.get_xlim()[1]
    axes.set_xticks([tick for tick in MaxNLocator(4).tick_values(0, most) if tick <= most])
    axes.set_xlim(0, most / (1 - share))
    marker_size = min(3.5, 0.7 * 72 * WIDTH * share / (len(bars) + 1))  # they do not touch
    for index, rows in enumerate(bars):
        x = 1 - share * (1 - (index + 1) / (len(bars) + 1))
        style: dict[str, Any] = {"color": GRAY, "transform": axes.get_yaxis_transform()}
        axes.plot([x, x], [rows[0], rows[-1]], ":", lw=0.8, **style)
        axes.plot([x] * len(rows), rows, "s", ms=marker_size, **style)


def _draw_estimate(axes: Axes, row: int, estimate: Estimate, fill: str) -> None:
    if (bar := estimate.bar) is not None:
        value, low, high = bar
        axes.plot([low, high], [row, row], color="black", lw=1)
        axes.plot(value, row, "o", ms=5, color="black", mfc=fill)
