"""Numbers as people read them, the same in the terminal, the figures and the report."""

from memsolve.study.fit import Estimate

LABELS = {
    "capacity": "recovered items",
    "saturation": "saturation batch size B*",
    "precision": "share of the exact polar factor's capacity",
}
DEFINITIONS = {
    "capacity": (
        "Items whose own logit is the largest after one step on the population gradient from "
        "W = 0; mean over seeds."
    ),
    "saturation": (
        "Batch size at which two asymptotes cross: what small batches recover, which grows like "
        "the number of distinct items they hold, and what the population gradient recovers. It "
        "follows from the capacity and from how nearly small batches are recovered whole. Around "
        "it the count may rise above the population's before it settles: the table gives the peak."
    ),
    "precision": (
        "Items recovered by one inexact Muon step on the population gradient, relative to those "
        "of the exact polar factor on the same seeds. The gradient's singular values span many "
        "orders of magnitude; what an orthogonalisation does not flatten, it does not store."
    ),
}


def plain(label: str) -> str:
    """A label as matplotlib should show it: no mathematics, and not hidden for an underscore."""
    return (" " if label.startswith("_") else "") + label.replace("$", r"\$")


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
