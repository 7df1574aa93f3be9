"""A small model that learns facts from prompts: which optimizer recalls the rare ones?

`python -m memsolve.examples.factual_recall --out results/factual-recall` runs it.
"""

from memsolve.examples.factual_recall.comparison import study

__all__ = ["study"]
