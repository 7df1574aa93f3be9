"""How a study presents its fits: as text, in tables, and in figures."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic

from matplotlib.figure import Figure

from memsolve.engine.results.summary import Fit, P, Summary


class Presentation(ABC, Generic[P]):
    """What the report shows of a study, given its summary.

    Attributes:
        name: of the command, as "capacity"; of a study outside of memsolve, its path.
        question: what the study answers, in one line, for the command's help.
        quantity: what a point measures, in a few words, for axes and titles.
        definition: what that means, in a paragraph.
        legend: what signs in the terminal's table mean; empty where there are none.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    quantity: ClassVar[str]
    definition: ClassVar[str]
    legend: ClassVar[str] = ""

    @abstractmethod
    def value(self, point: P) -> str:
        """A point as text, in a word."""

    @abstractmethod
    def figures(self, summary: Summary[P]) -> dict[str, Figure]:
        """Figures by file name (without suffix), from the summary alone."""

    def score(self, point: P) -> float | None:
        """The number by which points are sorted and merged studies ranked, the largest first.

        None where a point has none.
        """
        return None

    def detail(self, point: P) -> str:
        """A point as text, with everything that the report says of it."""
        return self.value(point)

    def columns(self, fit: Fit[P]) -> dict[str, str]:
        """A fit as text, by column title."""
        return {"exponent in d [95%]": fit.estimate.format(), "theory": str(fit.law or "-")}

    def rows(self, fits: Sequence[Fit[P]]) -> list[dict[str, str]]:
        """Every fit as text, by column title."""
        return [self.columns(fit) for fit in fits]

    def ranked(self, fits: Sequence[Fit[P]]) -> list[Fit[P]]:
        """Fits of merged studies by alpha, then by the score at the largest `d`, best first."""

        def key(fit: Fit[P]) -> tuple[float, float]:
            score = self.score(fit.points[-1])
            return fit.alpha, math.inf if score is None else -score

        return sorted(fits, key=key)
