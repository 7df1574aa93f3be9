"""Figures, tables and the HTML report of finished studies."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memsolve.report.page import write_report
    from memsolve.report.table import notes
    from memsolve.report.terminal import terminal_tables

__all__ = ["notes", "terminal_tables", "write_report"]

_HOMES = {"notes": "table", "terminal_tables": "terminal", "write_report": "page"}


def __getattr__(name: str) -> Any:
    """Import on first use: studies import `formatting`, and workers need no page."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
