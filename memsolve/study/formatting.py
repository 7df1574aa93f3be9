"""Estimates as text, for the tables of all studies."""

from memsolve.engine.results.estimate import Estimate
from memsolve.report.words import count


def format_estimate(estimate: Estimate) -> str:
    """A number of items or examples with its interval, `133 [120, 141]`; or why there is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note if estimate.value is None else count(estimate.value)
    return f"{count(estimate.value)} [{count(estimate.low)}, {count(estimate.high)}]"


def format_value(value: float | None) -> str:
    """A number of items or examples; `?` where it is not identified."""
    return "?" if value is None else count(value)
