"""Execution in this process."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from memsolve.engine.execution.process_settings import restored
from memsolve.environment import Environment, environment
from memsolve.faults import (
    MachineError,
    RankError,
    StepError,
    format_error,
    is_interrupt,
    machine_error,
)

T = TypeVar("T")


class LocalRunner:
    """Runs in this process. Settings that an optimizer changes are restored after each value."""

    def stream(
        self, function: Callable[..., Iterable[T]], *arguments: Any, cells: float = 1
    ) -> Iterator[T]:
        """Yield the values of a function, without a time limit; see `Runner.stream`."""
        values: Iterator[T] | None = None
        while True:
            with restored(), _exits_as_errors():
                if values is None:
                    values = iter(function(*arguments))
                value = list(islice(values, 1))
            if not value:
                return
            yield value[0]

    def environment(self, device: str) -> Environment:
        """That of this process."""
        return environment(device)


@contextmanager
def _exits_as_errors() -> Iterator[None]:
    """Raise failures of the machine, and exits of optimizers, as errors; other errors pass."""
    try:
        yield
    except (StepError, MachineError, RankError):
        raise
    except BaseException as error:
        if (failure := machine_error(error)) is not None:
            raise failure from error
        if isinstance(error, Exception) or is_interrupt(error):
            raise
        raise StepError(f"it failed: {format_error(error)}") from error
