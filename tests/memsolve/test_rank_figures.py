"""Figures of a comparison: scores, ranks, and differences to a baseline."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from memsolve.report.alt_text import describe
from memsolve.report.drawing import DESKTOP_WIDTH, PHONE_WIDTH, figure_style
from memsolve.study import leaderboard
from memsolve.study.leaderboard.comparison import differences, indistinct
from memsolve.study.leaderboard.conclusions import (
    conclusions,
    format_rank_ranges,
    own_optimizers,
    track_blocks,
)
from memsolve.study.leaderboard.rank_figures import OWN, rank_interval
from tests.memsolve.report_cases import study

COUNT = 12
ADAMW = "torch.optim.AdamW:lr=0.01"


@cache
def drawn(width: float) -> dict[str, Figure]:
    _, summary = study("leaderboard", COUNT)
    with figure_style(width):
        return leaderboard.figures(summary)


@pytest.mark.parametrize("width", [DESKTOP_WIDTH, PHONE_WIDTH])
def test_every_optimizer_has_a_row_on_every_track(width: float) -> None:
    figures = drawn(width)
    names = ["leaderboard", "leaderboard-ranks", "leaderboard-differences", "leaderboard-steps"]
    assert list(figures) == names
    for name in names[:3]:
        figure = figures[name]
        assert figure.get_figwidth() <= width
        assert len(figure.axes) == 3
        for axes in figure.axes:
            assert len(axes.get_yticklabels()) == COUNT
            assert rows_do_not_overlap(axes)
        assert "one-step: " in describe(figure)


def rows_do_not_overlap(axes: Axes) -> bool:
    boxes = [Text.get_window_extent(label) for label in axes.get_yticklabels()]
    middles = sorted((box.y0 + box.y1) / 2 for box in boxes)
    return bool(np.diff(middles).min() > 8)


def test_the_names_of_the_users_optimizers_are_in_color() -> None:
    _, summary = study("leaderboard", COUNT)
    own = own_optimizers(summary.fits)
    assert "newton" in own  # the recorded one is newton:lr=1
    assert not {"muon", "sgd"} & set(own)
    figure = drawn(DESKTOP_WIDTH)["leaderboard"]
    colored = [label for label in figure.axes[0].get_yticklabels() if label.get_color() == OWN]
    assert len(colored) == len(own)


def test_a_single_optimizer_is_not_compared() -> None:
    _, summary = study("leaderboard", 1)
    with figure_style(DESKTOP_WIDTH):
        assert list(leaderboard.figures(summary)) == ["leaderboard-steps"]


def test_the_panels_hold_the_differences_and_pairs() -> None:
    _, summary = study("leaderboard", COUNT)
    tracks = track_blocks(summary.fits)
    assert list(tracks) == ["one-step", "full-gradient", "minibatch"]
    figures = drawn(DESKTOP_WIDTH)
    for axes, track in zip(figures["leaderboard-differences"].axes, tracks.values(), strict=True):
        pairs = [(name, "muon") for name in track.order if name != "muon"]
        marks = [line for line in axes.lines if line.get_marker() == "o"]
        filled = [line.get_markerfacecolor() == "black" for line in marks]
        assert filled == [each.is_significant for each in differences(track, pairs)]
    for axes, track in zip(figures["leaderboard"].axes, tracks.values(), strict=True):
        similar = indistinct(track, differences(track))
        (squares,) = axes.collections
        shown = ~np.ma.getmaskarray(np.ma.asarray(squares.get_array())).reshape(COUNT, COUNT)
        assert shown.tolist() == [
            [other in similar[name] for other in track.order] for name in track.order
        ]


def test_the_table_states_the_ranges_and_the_conclusions_follow_it() -> None:
    _, summary = study("leaderboard", 4)
    ranges = format_rank_ranges(summary.fits)
    assert ranges["one-step"] == {"sgd": "1", "muon": "2", "newton": "3", ADAMW: "4"}
    assert leaderboard.rows(summary.fits)[0].cells["one-step [95%]"].text.startswith("1: ")
    similar = [replace(fit, optimizer="twin") for fit in summary.fits if fit.optimizer == "sgd"]
    fits = [*similar, *summary.fits]
    assert format_rank_ranges(fits)["one-step"]["sgd"] == "1-2"
    texts = [row.cells["one-step [95%]"].text for row in leaderboard.rows(fits)]
    assert [text.partition(":")[0] for text in texts] == ["1 (1-2)", "1 (1-2)", "3", "4", "5"]
    sentences = conclusions(summary.fits)
    assert len(sentences) == 2 * 3  # newton and an AdamW with a learning rate, on three tracks
    assert sentences == leaderboard.conclusions(summary)
    assert sentences[0].startswith("On the one-step track `newton` recovers ")
    assert "fewer items than muon (p < 0.001)" in sentences[0]


def test_the_interval_of_a_rank_leaves_out_little_on_either_side() -> None:
    assert rank_interval(np.array([0.0, 1.0, 0.0])) == (2, 2)
    assert rank_interval(np.array([0.5, 0.5, 0.0])) == (1, 2)
    assert rank_interval(np.array([0.02, 0.96, 0.02])) == (2, 2)
    assert rank_interval(np.array([0.1, 0.2, 0.7])) == (1, 3)
