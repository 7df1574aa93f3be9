"""A progress bar on standard error, since a command's standard output is its results."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Advance = Callable[[str], None]
"""Called after each cell, with a description of the work."""

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

        def advance(description: str) -> None:
            progress.update(task, advance=1, description=description)

        yield advance
