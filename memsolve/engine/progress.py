"""A progress bar for the terminal, on standard error: what a command prints is its results."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Advance = Callable[[str], None]
"""Called after each cell, with what to say of the work."""

Progress = Callable[[str, int, int], AbstractContextManager[Advance]]
"""Shows the work of a study: its name, how many cells it has and how many are done."""


@contextmanager
def bar(name: str, total: int, done: int) -> Iterator[Advance]:
    """A bar with the time that is left; none where standard error is no terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    seen = console.is_jupyter or console.file.isatty()
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not seen) as progress:
        task = progress.add_task(name, total=total, completed=done)

        def advance(description: str) -> None:
            progress.update(task, advance=1, description=description)

        yield advance
