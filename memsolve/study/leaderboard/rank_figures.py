"""Figures of a comparison: scores, ranks, and differences to a baseline, a panel for each track."""

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memsolve.engine.results.estimate import Estimate
from memsolve.report.curves import LETTER_WIDTH
from memsolve.report.drawing import COLORS, add_legend, create_panels, escape_mathtext
from memsolve.report.names import shorten_names
from memsolve.study.leaderboard.comparison import (
    Blocks,
    differences,
    indistinct,
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

PAIRS = 0.45
"""The share of a panel that shows which pairs cannot be distinguished."""

PAIR = "0.7"
"""Gray of such a pair."""

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


def score_figure(
    tracks: Tracks,
    estimates: Mapping[str, Mapping[str, Estimate]],
    own: Collection[str] = (),
) -> Figure:
    """Scores, and for each optimizer those that cannot be distinguished from it.

    Args:
        tracks: to be drawn.
        estimates: the scores with their intervals, by track and optimizer.
        own: optimizers whose names are in color.
    """
    figure, panels = _panels(tracks, "score, share of d² / (2 ln N)", own)
    texts = []
    for words, track in tracks.items():
        axes, order = panels[words], track.order
        similar = indistinct(track, differences(track))
        for row, name in enumerate(order):
            _draw_estimate(axes, row, estimates[words][name], "black")
        _draw_pairs(axes, np.array([[other in similar[name] for other in order] for name in order]))
        scores = (
            f"{name} {estimates[words][name]}, not distinguished from "
            f"{', '.join(other for other in similar[name] if other != name) or 'none'}"
            for name in order
        )
        texts.append(f"{words}: {'; '.join(scores)}")
    add_legend(
        figure,
        {
            "score, mean over problems, with its 95% interval over seeds": {
                "marker": "o",
                "ls": "-",
                "color": "black",
            },
            "cannot be distinguished (p at least 0.05, Holm) from the optimizer of this column; "
            "columns are in the order of rows": {"marker": "s", "ls": "", "color": PAIR},
        },
    )
    figure.set_label(f"Scores, and which optimizers cannot be distinguished. {'. '.join(texts)}.")
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


def _draw_pairs(axes: Axes, similar: np.ndarray) -> None:
    """A square for each pair (O, O) that is similar, to the right of all scores."""
    most, count = axes.get_xlim()[1], len(similar)
    axes.set_xticks([tick for tick in MaxNLocator(4).tick_values(0, most) if tick <= most])
    axes.set_xlim(0, most / (1 - PAIRS))
    axes.pcolormesh(
        np.linspace(1 - PAIRS + 0.02, 1, count + 1),
        np.arange(count + 1) - 0.5,
        np.ma.masked_equal(similar, 0),
        cmap=ListedColormap([PAIR]),
        transform=axes.get_yaxis_transform(),
    )


def _draw_estimate(axes: Axes, row: int, estimate: Estimate, fill: str) -> None:
    if (bar := estimate.bar) is not None:
        value, low, high = bar
        axes.plot([low, high], [row, row], color="black", lw=1)
        axes.plot(value, row, "o", ms=5, color="black", mfc=fill)
