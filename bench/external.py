"""`python -m bench.external`: draw the figure of `docs/external-validity.md`.

Its tables are written by `python -m bench.readme`. Both compare the recorded leaderboard with
results from elsewhere, which are in `bench/results/language-model/steps.csv`.
"""

import argparse
import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from scipy.stats import rankdata

from bench.repository import ROOT
from memsolve.engine import Summary
from memsolve.engine.results.load import load_summary
from memsolve.report.curves import LETTER_WIDTH
from memsolve.report.drawing import (
    COLORS,
    DESKTOP_WIDTH,
    GRAY,
    add_legend,
    create_panels,
    escape_mathtext,
    figure_style,
)
from memsolve.report.names import shorten_names
from memsolve.report.page import render
from memsolve.study.leaderboard.agreement import agreement_by_track, score_values
from memsolve.study.leaderboard.leaderboard import leaderboard

STEPS = ROOT / "bench" / "results" / "language-model" / "steps.csv"

ROW, WIDTH = 0.26, 1.9
"""Inches of the row of an optimizer, and of a panel without the names."""


class LanguageModelResult(NamedTuple):
    """The fewest steps with which an optimizer trains the language model, as published.

    Attributes:
        optimizer: its name on the leaderboard.
        steps: to a validation loss of 3.28.
        runs: number of runs.
        date, result: when it was published, and as which result of the track.
        difference: from the optimizer of the leaderboard.
    """

    optimizer: str
    steps: int
    runs: int
    date: str
    result: str
    difference: str


def language_model_results() -> list[LanguageModelResult]:
    """The results of the file, those with the fewest steps first."""
    with STEPS.open(newline="") as file:
        return [
            LanguageModelResult(name, int(steps), int(runs), date, result, difference)
            for name, steps, runs, date, result, difference in list(csv.reader(file))[1:]
        ]


def ranks_by_track(summary: Summary[Any], names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Ranks of some optimizers among each other in each track of a leaderboard, 1 for the best."""
    names = list(names)
    ranks = {}
    for track, values in score_values(summary.fits).items():
        common = [name for name in names if name in values]
        order = rankdata([-values[name] for name in common])
        ranks[track] = dict(zip(common, map(float, order), strict=True))
    return ranks


def by_fewest_steps() -> dict[str, float]:
    """Minus the steps of each optimizer, so that the best has the largest value."""
    return {each.optimizer: -float(each.steps) for each in language_model_results()}


def steps_table(summary: Summary[Any]) -> str:
    """Markdown: a row an optimizer, with its steps and its rank in each track."""
    results = language_model_results()
    ranks = ranks_by_track(summary, [result.optimizer for result in results])
    short = shorten_names(result.optimizer for result in results)
    rows = [
        f"| `{short[each.optimizer]}` | {each.steps} ({each.runs} runs) | {each.date}, "
        f"{', '.join(filter(None, (each.result, each.difference)))} | "
        f"{' | '.join(_rank(by_name.get(each.optimizer)) for by_name in ranks.values())} |"
        for each in results
    ]
    head = f"| optimizer | steps to 3.28 | published | {' | '.join(ranks)} |"
    return "\n".join([head, f"|---|---|---|{'---:|' * len(ranks)}", *rows])


def agreement_table(summary: Summary[Any], recall: Mapping[str, float]) -> str:
    """Markdown: Kendall's tau of the leaderboard with both language models, by track."""
    rows = {
        "steps to 3.28, 124 M parameters": by_fewest_steps(),
        "facts recalled, width 64": recall,
    }
    tables = {words: agreement_by_track(values, summary.fits) for words, values in rows.items()}
    tracks = list(next(iter(tables.values())))
    lines = [
        f"| {words} | {max(each.num_common for each in by_track.values())} | "
        f"{' | '.join(str(by_track[track]) for track in tracks)} |"
        for words, by_track in tables.items()
    ]
    head = f"| tau [95%] with | optimizers | {' | '.join(tracks)} |"
    return "\n".join([head, f"|---|---:|{'---|' * len(tracks)}", *lines])


def draw(summary: Summary[Any]) -> Figure:
    """The rank of each optimizer in each track, in rows by the order of the language model."""
    results = language_model_results()
    ranks = ranks_by_track(summary, [result.optimizer for result in results])
    short = shorten_names(result.optimizer for result in results)
    agreements = agreement_by_track(by_fewest_steps(), summary.fits)
    labels = [f"{escape_mathtext(short[each.optimizer])} {each.steps}" for each in results]
    figure, panels = create_panels(
        {track: f"{track}\ntau = {agreements[track]}" for track in ranks},
        size=(WIDTH + LETTER_WIDTH * max(map(len, labels)), ROW * len(results) + 1.2),
        axes=("rank on the leaderboard", ""),
        share=(True, False),
    )
    order = rankdata([each.steps for each in results])
    for track, axes in panels.items():
        axes.plot(order, range(len(results)), "--", color=GRAY, lw=1)
        points = [
            (ranks[track][each.optimizer], row)
            for row, each in enumerate(results)
            if each.optimizer in ranks[track]
        ]
        axes.plot(*zip(*points, strict=True), "o", color=COLORS[1], ms=5)
        axes.set_yticks(range(len(results)), labels=labels)
        axes.set_ylim(len(results) - 0.5, -0.5)
        axes.set_xticks(range(1, len(results) + 1))
        axes.tick_params(left=False)
    add_legend(
        figure,
        {
            "rank among these optimizers": {"marker": "o", "ls": "", "color": COLORS[1]},
            "the order of the language model (steps after the names)": {"ls": "--"},
        },
    )
    return figure


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.external", description=__doc__)
    out = ROOT / "docs" / "external-validity.png"
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--width", type=float, default=DESKTOP_WIDTH, help="in inches")
    options = parser.parse_args()
    with figure_style(options.width):
        summary = load_summary(leaderboard, leaderboard.record)
        options.out.write_bytes(render(draw(summary)).png)


if __name__ == "__main__":
    main()
