"""What a study is, and what runs it, keeps its results and reads them back."""

from memsolve.engine.cell import Cell
from memsolve.engine.grid import Grid, option
from memsolve.engine.prepare import prepare
from memsolve.engine.study import Study
from memsolve.engine.summary import Fit, Point, Summary

__all__ = ["Cell", "Fit", "Grid", "Point", "Study", "Summary", "option", "prepare"]
