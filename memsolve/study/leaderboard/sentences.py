"""The comparison of a user's optimizers with baselines, in sentences with p-values."""

from collections.abc import Sequence

from memsolve.engine.results.estimate import ROUNDING
from memsolve.report.names import shorten_names
from memsolve.study.leaderboard.comparison import Blocks, Difference, differences

BASELINES = "muon", "torch.optim.AdamW"
"""With which the optimizers of a user are compared."""

TIMES = 2.0
"""From this ratio on a sentence says how many times as many items, not how many percent more."""


def sentences(
    words: str, track: Blocks, mine: Sequence[str], baselines: Sequence[str] = BASELINES
) -> list[str]:
    """A sentence for each optimizer of the user: better than the baselines, worse, or neither.

    The correction is for the number of comparisons in all sentences of the track.

    Args:
        words: of the track, as "full gradient".
        track: its blocks.
        mine: the optimizers of the user; names that the track lacks are left out.
        baselines: with which they are compared; likewise.
    """
    mine = [name for name in mine if name in track.names]
    others = [name for name in baselines if name in track.names and name not in mine]
    if not mine or not others:
        return []
    results = differences(track, [(own, other) for own in mine for other in others])
    short = shorten_names([*mine, *others])
    conditions = f"paired over {track.memories} memories" + (
        f", Holm-corrected for {len(results)} comparisons" if len(results) > 1 else ""
    )
    return [
        f"On the {words} track `{short[own]}` "
        f"{_clauses(track, short, [each for each in results if each.first == own])} "
        f"({conditions})."
        for own in mine
    ]


def _clauses(track: Blocks, short: dict[str, str], results: Sequence[Difference]) -> str:
    """The comparisons of one optimizer: those that are significant first."""
    means = dict(zip(track.names, map(float, track.means), strict=True))
    significant = [each for each in results if each.is_significant]
    inconclusive = [each for each in results if not each.is_significant]
    clauses = [
        f"recovers {_factor(each, means[each.second])} {short[each.second]} ({format_p(each.p)})"
        for each in significant
    ]
    if inconclusive:
        names = (f"{short[each.second]} ({_reason(each)})" for each in inconclusive)
        clauses.append(f"cannot be distinguished from {' or '.join(names)}")
    return "; it ".join(clauses)


def _factor(difference: Difference, baseline: float) -> str:
    """`12% [5%, 19%] more items than`, relative to the score of the baseline."""
    value, low, high = difference.estimate.bar or (0.0, 0.0, 0.0)
    if baseline <= ROUNDING:
        return f"more items (a share of the limit of {value:.2f} [{low:.2f}, {high:.2f}]) than"
    value, low, high = (max(each / baseline, -1.0) for each in (value, low, high))
    if 1 + value >= TIMES:
        return f"{1 + value:.1f} [{1 + low:.1f}, {1 + high:.1f}] times as many items as"
    if value < 0:
        return f"{-value:.0%} [{-high:.0%}, {-low:.0%}] fewer items than"
    return f"{value:.0%} [{low:.0%}, {high:.0%}] more items than"


def _reason(difference: Difference) -> str:
    return difference.estimate.note if difference.p is None else format_p(difference.p)


def format_p(p: float | None) -> str:
    """`p = 0.003`, `p < 0.001`; `no test` without one."""
    if p is None:
        return "no test"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
