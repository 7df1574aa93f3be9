"""Studies: grids of cells, run one by one, resumable, and their fitted exponents."""

from memsolve.study.capacity import capacity
from memsolve.study.grid import Grid
from memsolve.study.precision import precision
from memsolve.study.saturation import saturation
from memsolve.study.summary import Fit, Summary

__all__ = ["Fit", "Grid", "Summary", "capacity", "precision", "saturation"]
