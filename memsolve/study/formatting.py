"""Estimates as text, for the tables of all studies."""

from memsolve.engine.results.estimate import Estimate
from memsolve.report.formatting import format_count


def format_estimate(estimate: Estimate) -> str:
    """A number of items or examples with its interval, `133 [120, 141]`; or why there is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note if estimate.value is None else format_count(estimate.value)
    low, high = format_count(estimate.low), format_count(estimate.high)
    return f"{format_count(estimate.value)} [{low}, {high}]"


def format_value(value: float | None) -> str:
    """A number of items or examples; `?` where it is not identified."""
    return "?" if value is None else format_count(value)
