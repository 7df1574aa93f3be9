"""How a study presents its fits: as text, in tables, and in figures."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple

from memsolve.engine.results.estimate import Estimate
from memsolve.engine.results.summary import Fit, P, Summary
from memsolve.theory import Law

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TableCell(NamedTuple):
    """A cell of the report's table.

    Attributes:
        text: is shown.
        key: the value by which the column is sorted: a number, the largest first, or words; None
            sorts last.
        details: is shown below the text on demand; empty without any.
    """

    text: str
    key: float | str | None = None
    details: str = ""

    @classmethod
    def of_estimate(cls, estimate: Estimate) -> "TableCell":
        """An estimate with its interval and doubts, sorted by its value."""
        return cls(estimate.format(), estimate.value)

    @classmethod
    def of_law(cls, law: Law | None) -> "TableCell":
        """A predicted exponent; `-` without one."""
        return cls("-") if law is None else cls(str(law), law.exponent)


class Row(NamedTuple, Generic[P]):
    """A row of the report's table.

    Attributes:
        fits: whose points it holds.
        names: the cells that name it, by column title, the optimizer first.
        cells: the other cells, by column title.
    """

    fits: Sequence[Fit[P]]
    names: dict[str, TableCell]
    cells: dict[str, TableCell]


class Presentation(ABC, Generic[P]):
    """How a study presents a summary.

    Attributes:
        name: of the command, as "capacity"; of a study outside of memsolve, its path.
        question: the question that the study answers, in one line, for the command's help.
        quantity: the quantity that a point measures, in a few words, for axes and titles.
        definition: of the quantity, in a paragraph.
        legend: explains the signs in the terminal's table; empty without any.
        name_width: letters of an optimizer's name that a narrow terminal shows at least; what then
            has no room moves to a further table.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    quantity: ClassVar[str]
    definition: ClassVar[str]
    legend: ClassVar[str] = ""
    name_width: ClassVar[int] = 8

    @abstractmethod
    def value(self, point: P) -> str:
        """The main number of a point, as short text."""

    @abstractmethod
    def figures(self, summary: Summary[P]) -> dict[str, "Figure"]:
        """Figures by file name (without suffix), from the summary alone.

        Import what draws inside of this method: a worker imports the study, and draws nothing.
        """

    def conclusions(self, summary: Summary[P]) -> list[str]:
        """What follows from the fits, in sentences below the table; none by default."""
        return []

    def score(self, point: P) -> float | None:
        """The number by which points are sorted and merged studies ranked, the largest first.

        None for a point without one.
        """
        return None

    def detail(self, point: P) -> str:
        """A point as text, with all that the report shows of it."""
        return self.value(point)

    def columns(self, fit: Fit[P]) -> dict[str, TableCell]:
        """The cells of a fit, by column title."""
        return {
            "exponent in d [95%]": TableCell.of_estimate(fit.estimate),
            "theory": TableCell.of_law(fit.law),
        }

    def rows(self, fits: Sequence[Fit[P]]) -> list[Row[P]]:
        """The rows of the table: one for each fit, by default."""
        return [
            Row(
                [fit],
                {
                    "optimizer": TableCell(fit.optimizer, fit.optimizer),
                    "alpha": TableCell(f"{fit.alpha:g}", fit.alpha),
                },
                self.columns(fit),
            )
            for fit in fits
        ]

    def ranked(self, fits: Sequence[Fit[P]]) -> list[Fit[P]]:
        """Fits of merged studies by alpha, then by the score at the largest `d`, best first."""

        def key(fit: Fit[P]) -> tuple[float, float]:
            score = self.score(fit.points[-1])
            return fit.alpha, math.inf if score is None else -score

        return sorted(fits, key=key)
