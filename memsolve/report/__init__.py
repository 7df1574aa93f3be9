"""Figures, tables and the HTML report of finished studies."""

from memsolve.report.page import write_report
from memsolve.report.table import notes
from memsolve.report.terminal import terminal_table

__all__ = ["notes", "terminal_table", "write_report"]
