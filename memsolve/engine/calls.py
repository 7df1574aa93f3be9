"""Calls of what optimizers take part in: in this process, or in one of their own."""

import math
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from memsolve_kernels.errors import InputError, RangeError

from memsolve.engine.checks import positive
from memsolve.engine.construct import WRAPPED
from memsolve.engine.grid import Choice, Grid
from memsolve.engine.optimizers import BUILT_IN, parse
from memsolve.engine.process import restored
from memsolve.faults import MachineError, StepError, in_words, is_interrupt, machine_error

if TYPE_CHECKING:
    from memsolve.engine.study import Study

T = TypeVar("T")


class Calls(Protocol):
    """What runs functions that run optimizers: pure functions of values."""

    def stream(
        self, function: Callable[..., Iterable[T]], *given: Any, worth: float = 1
    ) -> Iterator[T]:
        """The values that a function gives, each as soon as it is there.

        Args:
            function: of `given`, both of which can be pickled.
            given: its arguments.
            worth: a value may take as long as so many cells.

        Raises:
            StepError: an optimizer ended the process, or took too long for a value.
            MachineError: the machine failed.
            Exception: whatever else the function raises.
        """


def call(calls: Calls, work: Callable[[], T], worth: float = 1) -> T:
    """The value of a function without arguments; see `Calls.stream`."""
    values: list[T] = list(calls.stream(_once, work, worth=worth))
    return values[0]


def _once(work: Callable[[], T]) -> Iterator[T]:
    yield work()


class Here:
    """In this process. What an optimizer changes of its settings is put back after each value."""

    def stream(
        self, function: Callable[..., Iterable[T]], *given: Any, worth: float = 1
    ) -> Iterator[T]:
        """The values of a function; nothing can stop one."""
        values: Iterator[T] | None = None
        while True:
            with restored(), _exits():
                if values is None:
                    values = iter(function(*given))
                value = list(islice(values, 1))
            if not value:
                return
            yield value[0]


@contextmanager
def _exits() -> Iterator[None]:
    """Failures of the machine, and exits of optimizers, as errors; other errors pass."""
    try:
        yield
    except (StepError, MachineError):
        raise
    except BaseException as error:
        if (failure := machine_error(error)) is not None:
            raise failure from error
        if isinstance(error, Exception) or is_interrupt(error):
            raise
        raise StepError(f"it failed: {in_words(error)}") from error


@contextmanager
def calls_for(study: "Study[Any, Any, Any]", grid: Grid, limit: float | None) -> Iterator[Calls]:
    """What runs the optimizers of a grid: a process of their own where it serves.

    That is where a time limit is given, or an optimizer is neither built in nor torch's; but not
    where this process may have changed what another would import anew: an optimizer that is given
    as a class or a function, or whose package is imported here.

    Args:
        study: what is run.
        grid: what it varies.
        limit: seconds that a cell may take; None for any number.

    Raises:
        InputError: a limit that is no number above 0, or cannot be kept.
    """
    if limit is not None and not positive(limit):
        raise RangeError(f"time_limit is {limit!r}; expected a number of seconds above 0")
    if limit is None and not _serves(grid):
        yield Here()
        return
    from memsolve.engine.worker import SUPPORTED, Worker

    if not (SUPPORTED and _can_be_sent(study, grid)):
        if limit is not None:
            raise InputError(
                "a time limit needs a process that can import study and optimizers: give the "
                "optimizers by name, or as classes and functions of a module"
            )
        yield Here()
        return
    with closing(Worker(study, limit or math.inf)) as worker:
        yield worker


def _serves(grid: Grid) -> bool:
    others = {choice for choice in grid.choices.values() if not _is_known(choice)}
    here = {name.partition(".")[0] for name in sys.modules}
    return bool(others) and all(
        isinstance(choice, str) and choice.replace(":", ".").partition(".")[0] not in here
        for choice in others
    )


def _is_known(choice: Choice) -> bool:
    """Whether an optimizer is built in, or torch's, and what it wraps is, too."""
    if not isinstance(choice, str):
        return str(getattr(choice, "__module__", "")).startswith("torch.optim")
    try:
        path, settings = parse(choice)
    except InputError:
        return True  # is refused
    wrapped = [settings[key] for key in WRAPPED if isinstance(settings.get(key), str)]
    unknown = "." not in path and ":" not in path  # is refused
    known = unknown or path in BUILT_IN or path.startswith("torch.optim.")
    return known and all(map(_is_known, wrapped))


def _can_be_sent(*values: object) -> bool:
    """Whether another process can import what the values are made of."""
    try:
        return b"__main__" not in pickle.dumps(values)
    except Exception:
        return False
