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
from bench.registry import OURS
from bench.repository import ROOT
from bench.scaling.tables import processes_table, spreads_table, sweeps_table, ways_table
from bench.timing import Timing
from memsolve.engine import Fit, Summary
from memsolve.engine.results.estimate import mean
from memsolve.engine.results.load import load_summary
from memsolve.report.names import shorten_names
from memsolve.study.formatting import format_estimate
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.ranking import gaps, rank, ranking, scores
from memsolve.study.rates.figures import by_curve
from memsolve.study.rates.rates import rates

RATES = ROOT / "bench" / "results" / "rates"

BEST = 5
"""How many rows of the leaderboard the short table has."""

ALPHA = 1.5
"""Counts of the leaderboard are at this alpha and the largest `d`; shares are over all of them."""


def pages() -> dict[Path, str]:
    """Every page with tables, with its tables up to date."""
    full = leaderboard_table(load_summary(leaderboard, leaderboard.record))
    tables = {
        "bench": speed_tables(record.machines()),
        "leaderboard": full,
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
    """Markdown: a row an optimizer, the best first, then how it was measured."""
    shares, gap_texts = ranking(summary.fits), gaps(summary.fits)
    at_alpha = {fit.optimizer: fit for fit in summary.fits if fit.alpha == ALPHA}
    names = shorten_names(shares)
    last = next(iter(at_alpha.values())).points[-1]
    counts = " | ".join(f"after {steps}" for steps in last.horizons)
    head = (
        f"| | optimizer | share of the best [95%] | gap [95%] | {counts} "
        "| exponent in d | B_80% | time | state |"
    )
    rows = [
        _leaderboard_row(
            [rank(shares, name), f"`{names[name]}`", str(share), gap_texts[name]],
            at_alpha[name],
            summary,
        )
        for name, share in shares.items()
    ]
    ruler = "|---:|---|---|---|" + "---|" * 6 + "---:|"
    return "\n".join([head, ruler, *rows, "", _leaderboard_provenance(summary)])


def shorten(table: str) -> str:
    """The first columns and rows of the leaderboard's table: rank, optimizer and share."""
    head, _, *rows = (line.split(" | ")[:3] for line in table.splitlines())
    lines = [head, ["|---:", "---", "---"], *rows[:BEST]]
    return "\n".join(f"{' | '.join(cells)} |" for cells in lines)


def _leaderboard_row(cells: list[str], fit: Fit[Any], summary: Summary[Any]) -> str:
    """A row that begins with these cells."""
    point = fit.points[-1]
    critical = fit.points[0].saturating_batch_size
    cells = [
        *cells,
        *(
            format_estimate(mean(seeds)) if any(seeds) else summary.remarks.get(fit.optimizer, "0")
            for seeds in point.recovered
        ),
        str(fit.estimate),
        "?" if critical.value is None else format_estimate(critical),
        f"{np.median(point.time):.1f}" if point.time else "-",
        f"{point.state:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _leaderboard_provenance(summary: Summary[Any]) -> str:
    """Problems, seeds, time, versions and command."""
    points = [point for fit in summary.fits for point in fit.points]
    alphas, dims, _, steps = (
        ", ".join(f"{value:g}" for value in sorted(set(values)))
        for values in zip(*scores(summary.fits), strict=True)
    )
    hours = sum(point.total_seconds for point in points) / 3600
    here = summary.environment
    return (
        f"{len(scores(summary.fits))} problems: alpha = {alphas}, d = {dims}, after "
        f"{steps} steps, N = {points[0].num_items}; {len(points[0].recovered[0])} seeds and one "
        f"for tuning; {hours:.1f} hours of {here['device']}, {here['threads']} thread, torch "
        f"{here['torch']}, pytorch_optimizer {here.get('pytorch_optimizer', '-')}; "
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
