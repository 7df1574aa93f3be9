"""What a study is, and what runs it, keeps its results and reads them back."""

from memsolve.engine.cell import Cell
from memsolve.engine.grid import Grid
from memsolve.engine.options import option
from memsolve.engine.prepare import prepare
from memsolve.engine.presentation import Row, TableCell
from memsolve.engine.results.summary import Fit, Point, Summary
from memsolve.engine.study import Study

__all__ = [
    "Cell",
    "Fit",
    "Grid",
    "Point",
    "Row",
    "Study",
    "Summary",
    "TableCell",
    "option",
    "prepare",
]
