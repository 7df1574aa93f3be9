"""A progress bar on standard error, since a command's standard output is its results."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Advance(Protocol):
    """Called after each cell."""

    def __call__(self, description: str, more: int = 0) -> None:
        """Show that a cell is done.

        Args:
            description: of the work.
            more: how many further cells follow from it; only with an executor.
        """


Progress = Callable[[str, int, int], AbstractContextManager[Advance]]
"""Shows the progress of a study, given its name, number of cells, and number of finished ones."""


@contextmanager
def bar(name: str, total: int, done: int) -> Iterator[Advance]:
    """A bar with the remaining time; nothing if standard error is no terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    visible = console.is_jupyter or console.file.isatty()
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not visible) as progress:
        task = progress.add_task(name, total=total, completed=done)

        def advance(description: str, more: int = 0) -> None:
            nonlocal total
            total += more
            progress.update(task, advance=1, total=total, description=description)

        yield advance
