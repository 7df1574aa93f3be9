"""A small model that learns facts from prompts: which optimizers store the rare ones?

`python -m memsolve.examples.factual_recall --out results/factual-recall` runs it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memsolve.examples.factual_recall.comparison import FactualRecall

    study: FactualRecall

__all__ = ["study"]


def __getattr__(name: str) -> "Any":
    """Import on first use, because `python -m` imports this with the current folder on the path."""
    if name != "study":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memsolve.examples.factual_recall import comparison

    return comparison.study
