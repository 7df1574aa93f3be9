"""`python -m bench.readme`: write the tables of README.md and docs/.

They are those of the records in bench/results/, and of the formulas in bench/scaling/.

Only what is between the markers is written. A test fails if a table differs.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bench import record
from bench.external import agreement_table, steps_table
from bench.registry import OURS
from bench.repository import ROOT
from bench.scaling.tables import processes_table, spreads_table, sweeps_table, ways_table
from bench.timing import Timing
from memsolve.engine import Summary
from memsolve.engine.results.load import load_summary
from memsolve.examples.factual_recall import study as factual_recall
from memsolve.examples.factual_recall.order_agreement import totals_by_alpha
from memsolve.report.formatting import format_count
from memsolve.report.names import shorten_names
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.ranking import counts_by_problem, in_order, ranked_tracks
from memsolve.study.leaderboard.references import is_saturated
from memsolve.study.leaderboard.tracks import Problem
from memsolve.study.rates.figures import by_curve
from memsolve.study.rates.rates import rates

RATES = ROOT / "bench" / "results" / "rates"
RECALL = ROOT / "bench" / "results" / "factual-recall"

BEST = 5
"""How many rows of the leaderboard the short table has."""


def pages() -> dict[Path, str]:
    """Every page with tables, with its tables up to date."""
    board = load_summary(leaderboard, leaderboard.record)
    full = leaderboard_table(board)
    (recall,) = totals_by_alpha(load_summary(factual_recall, RECALL)).values()
    tables = {
        "bench": speed_tables(record.machines()),
        "external": agreement_table(board, recall),
        "external-steps": steps_table(board),
        "leaderboard": full,
        "leaderboard-problems": problems_table(board),
        "processes": processes_table(),
        "best": shorten(full),
        "rates": rates_table(load_summary(rates, RATES)),
        "spreads": spreads_table(),
        "sweeps": sweeps_table(),
        "ways": ways_table(),
    }
    texts = {path: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
    for name, table in tables.items():
        texts = {path: replace_block(text, name, table) for path, text in texts.items()}
    return texts


def replace_block(text: str, name: str, table: str) -> str:
    """A page with the block of this name replaced, if it has one.

    Raises:
        ValueError: the page has one of its two markers only.
    """
    begin = f"<!-- {name}:begin (made by python -m bench.readme) -->"
    end = f"<!-- {name}:end -->"
    before, opening, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if bool(opening) != bool(closing) or (not opening and end in text):
        raise ValueError(f"a page needs both lines, {begin} and {end}, or neither")
    return f"{before}{begin}\n{table}\n{end}{after}" if opening else text


def speed_tables(machines: Iterable[dict[str, Any]]) -> str:
    """Markdown of every machine: what it is, then how many times as fast ours is."""
    return "\n\n".join(map(_speed_table, machines))


def _speed_table(machine: dict[str, Any]) -> str:
    cases: dict[str, list[Timing]] = {}
    for timing in machine["timings"]:
        if timing.hot:
            cases.setdefault(timing.case, []).append(timing)
    lines = [
        f"**{machine['machine']['device']}**, time over ours (above one, ours is faster):",
        "",
        "| case | ours | extra memory | others, time over ours [95%] |",
        "|---|---:|---:|---|",
        *(_case_row(case) for case in cases.values() if case[0].implementation == OURS),
        "",
        f"Measured on {provenance(machine)}. *Italic*: a part of the work only, a limit.",
    ]
    return "\n".join(lines)


def provenance(machine: dict[str, Any]) -> str:
    """Hardware, versions, commit and command in a line."""
    here = machine["machine"]
    gpu = f"driver {here['driver']}, CUDA {here['cuda']}, " if "cuda" in here else ""
    return (
        f"{here['device']}, {here['threads']} threads, {gpu}torch {here['torch']}, triton "
        f"{here['triton']}, Python {here['python']}; commit {machine['commit'][:10]}, "
        f"{machine['date']}; `{machine['command']}`"
    )


def _case_row(timings: list[Timing]) -> str:
    ours, *others = timings
    memory = "-" if ours.extra_bytes is None else f"{ours.extra_bytes / 1e6:.1f} MB"
    cells = "<br>".join(map(_ratio, others))
    return f"| {ours.case} | {1e3 * ours.median:.3g} ms | {memory} | {cells} |"


def _ratio(timing: Timing) -> str:
    assert timing.ratio is not None
    name = timing.implementation
    name = f"*{name}*" if timing.status == "bound" else name
    noise = "" if timing.differs else ", within noise"
    return (
        f"{name} {timing.ratio.value:.2f} [{timing.ratio.low:.2f}, {timing.ratio.high:.2f}]{noise}"
    )


def leaderboard_table(summary: Summary[Any]) -> str:
    """Markdown: the table of the leaderboard, then how it was measured."""
    rows = leaderboard.rows(summary.fits)
    names = shorten_names(row.names["optimizer"].text for row in rows)
    lines = []
    for row in rows:
        texts = [f"`{names[row.names['optimizer'].text]}`", *(c.text for c in row.cells.values())]
        lines.append(f"| {' | '.join(texts)} |")
    *tracks, state = rows[0].cells
    head = f"| optimizer | {' | '.join(tracks)} | {state} |"
    ruler = f"|---|{'---|' * len(tracks)}---:|"
    return "\n".join([head, ruler, *lines, "", _leaderboard_provenance(summary)])


def problems_table(summary: Summary[Any]) -> str:
    """Markdown: a row a problem with the items of the first optimizers and seconds of a run."""
    names = in_order(summary.fits)[:BEST]
    short = shorten_names(names)
    head = f"| track | problem | {' | '.join(f'`{short[name]}`' for name in names)} |"
    rows = []
    for track in ranked_tracks(summary.fits):
        counts, seconds = counts_by_problem(summary.fits, track), _seconds(summary)
        for problem in counts[names[0]]:
            saturated = ", saturated" if is_saturated(problem) else ""
            cells = [
                _items(counts[name].get(problem, []), seconds.get((name, problem)))
                for name in names
            ]
            rows.append(f"| {track} | {problem}{saturated} | {' | '.join(cells)} |")
    return "\n".join([head, f"|{'---|' * (2 + len(names))}", *rows])


def _seconds(summary: Summary[Any]) -> dict[tuple[str, Problem], float | None]:
    """Seconds of a run by optimizer and problem."""
    return {
        (fit.optimizer, problem): seconds
        for fit in summary.fits
        for point in fit.points
        for problem, seconds in zip(point.problems(fit.alpha), point.seconds, strict=True)
    }


def _items(counts: list[int], seconds: float | None) -> str:
    if not counts:
        return ""
    items = format_count(float(np.mean(counts)))
    return items if seconds is None else f"{items} in {seconds:.2g} s"


def shorten(table: str) -> str:
    """The first rows of the leaderboard's table, in the track that orders them."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return "\n".join("|".join(line.split("|")[:3]) + "|" for line in lines[: 2 + BEST])


def _leaderboard_provenance(summary: Summary[Any]) -> str:
    """Problems, seeds, time, versions and command."""
    points = [point for fit in summary.fits for point in fit.points]
    counted = [
        f"{sum(not is_saturated(problem) for problem in problems)} of {len(problems)} {track}"
        for track in ranked_tracks(summary.fits)
        for problems in [max(counts_by_problem(summary.fits, track).values(), key=len)]
    ]
    hours = sum(point.core_seconds for point in points) / 3600
    here, grid = summary.environment, summary.grid
    return (
        f"Problems that count: {', '.join(counted)}; {len(points[0].seeds)} seeds and "
        f"{grid['tuning_seeds']} for the tuning; {hours:.2g} core hours of {here['device']}, "
        f"{here['threads']} thread, torch {here['torch']}, pytorch_optimizer "
        f"{here.get('pytorch_optimizer', '-')}; "
        f"`OMP_NUM_THREADS={here['threads']} {summary.command}`"
    )


def rates_table(summary: Summary[Any]) -> str:
    """Markdown: exponents after each step, their laws, and items at the largest `d`."""
    curves = list(by_curve(summary))
    steps = [fit.points[0].step for fit in curves[0][-1]]
    lines = [
        f"| alpha | optimizer | gradient | | {' | '.join(f't = {step}' for step in steps)} |",
        f"|{'---|' * (4 + len(steps))}",
    ]
    for name, alpha, gradient, fits in curves:
        rows = {
            "exponent [95%]": [str(fit.estimate) for fit in fits],
            "law": ["-" if fit.law is None else f"{fit.law.exponent:.2f}" for fit in fits],
            f"items at d = {fits[0].points[-1].dim}": [rates.value(fit.points[-1]) for fit in fits],
        }
        lines += [
            f"| {alpha:g} | `{name}` | {gradient} | {title} | {' | '.join(cells)} |"
            for title, cells in rows.items()
        ]
    here = summary.environment
    seeds = len(summary.fits[0].points[0].recovered)
    return "\n".join(
        [
            *lines,
            "",
            f"{seeds} seeds; {here['device']}, {here['threads']} threads, torch "
            f"{here['torch']}; `{summary.command}`",
        ]
    )


def main() -> int:
    argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__).parse_args()
    for path, text in pages().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
