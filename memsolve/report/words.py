"""Numbers as people read them, the same in the terminal, the figures and the report."""

from memsolve.study.fit import Estimate
from memsolve.theory import Quantity

LABELS: dict[Quantity, str] = {
    "recovered": "recovered items",
    "saturation_batch_size": "saturation batch size B*",
}
DEFINITIONS: dict[Quantity, str] = {
    "recovered": (
        "Items whose own logit is the largest after one step on the population gradient from "
        "W = 0; mean over seeds."
    ),
    "saturation_batch_size": (
        "Batch size at which the two asymptotes cross: what small batches recover, which grows "
        "like the number of distinct items they hold, and what the population gradient recovers."
    ),
}


def interval(estimate: Estimate) -> str:
    """`1.36 [1.33, 1.39]`, or why there is no number."""
    if estimate.value is None:
        return estimate.note
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f} ({estimate.note})"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def law(exponent: float | None, status: str | None) -> str:
    """`1.33 published`, or a dash where there is no law."""
    return "-" if exponent is None else f"{exponent:.2f} {status}"
