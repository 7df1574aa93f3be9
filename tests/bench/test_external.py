"""The comparison of the leaderboard with results from elsewhere."""

from datetime import date

import numpy as np
import pytest

from bench.external import (
    agreement_table,
    draw,
    language_model_results,
    ranks_by_track,
    steps_table,
)
from memsolve.engine import Summary
from memsolve.study.leaderboard.grid import POPULAR
from memsolve.study.leaderboard.point import LeaderboardPoint
from tests.memsolve.report_cases import board_fit


def test_published_results_are_of_optimizers_on_the_leaderboard() -> None:
    results = language_model_results()
    assert [each.steps for each in results] == sorted(each.steps for each in results)
    assert {each.optimizer for each in results} <= set(POPULAR)
    assert all(each.runs > 1 and date.fromisoformat(each.date).year == 2026 for each in results)


@pytest.fixture
def board() -> Summary[LeaderboardPoint]:
    """A leaderboard with the order of the language model after one step, and reversed after ten.

    The last of the optimizers is not on it, another one is.
    """
    names = [each.optimizer for each in language_model_results()]
    fits = [
        board_fit(name, 1.5, [[30 - row, 32 - row], [row + 5, row + 7]])
        for row, name in enumerate([*names[:-1], "sgd"])
    ]
    return Summary("leaderboard", "", {}, fits)


def test_ranks_are_among_the_optimizers_that_both_have(board: Summary[LeaderboardPoint]) -> None:
    names = [each.optimizer for each in language_model_results()]
    ranks = ranks_by_track(board, names)
    count = len(names) - 1
    assert list(ranks["one-step"].values()) == list(range(1, count + 1))
    assert list(ranks["full-gradient"].values()) == list(range(count, 0, -1))
    assert "sgd" not in ranks["one-step"]


def test_tables_have_a_row_for_each_result(board: Summary[LeaderboardPoint]) -> None:
    results = language_model_results()
    head, _, *rows = steps_table(board).splitlines()
    assert head == "| optimizer | steps to 3.28 | published | one-step | full-gradient |"
    assert len(rows) == len(results)
    assert rows[0] == ("| `KLSOAP` | 3125 (6 runs) | 2026-05-08, #19, on a hyperball | 1 | 9 |")
    assert rows[-1].endswith("| - | - |")
    recall = {"sgd": 1.0, "muon": 3.0, results[0].optimizer: 2.0}
    _, _, steps, facts = agreement_table(board, recall).splitlines()
    assert steps.startswith(f"| steps to 3.28, 124 M parameters | {len(results) - 1} | 0.9")
    assert facts.startswith("| facts recalled, width 64 | 3 | 0.33 [-1.00, 1.00]")


def test_the_figure_has_a_panel_for_each_track(board: Summary[LeaderboardPoint]) -> None:
    first, second = draw(board).axes
    assert first.get_title(loc="left").startswith("one-step\ntau")
    assert second.get_title(loc="left").startswith("full-gradient\ntau")
    (points,) = (line for line in first.lines if line.get_marker() == "o")
    assert np.size(points.get_xdata()) == len(language_model_results()) - 1
