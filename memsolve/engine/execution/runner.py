"""What a runner is: it runs functions that run optimizers, here or elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from memsolve.environment import Environment

T = TypeVar("T")


class Runner(Protocol):
    """Runs pure functions of values that run optimizers."""

    def stream(
        self, function: Callable[..., Iterable[T]], *arguments: Any, cells: float = 1
    ) -> Iterator[T]:
        """Yield the values of a function, each as soon as it is there.

        Values computed before an error are yielded first: the error belongs to the next value.

        Args:
            function: of `arguments`; both can be pickled.
            arguments: of the function.
            cells: a value may take as long as this many cells, where a time limit holds.

        Raises:
            StepError: an optimizer ended the process, or exceeded the time limit.
            MachineError: the machine failed.
            Exception: whatever else the function raises.
        """

    def environment(self, device: str) -> Environment:
        """Versions and hardware where the functions run, on a device in the notation of torch."""


def call(runner: Runner, function: Callable[[], T], cells: float = 1) -> T:
    """The value of a function without arguments; see `Runner.stream`."""
    values: list[T] = list(runner.stream(_yield_once, function, cells=cells))
    return values[0]


def _yield_once(function: Callable[[], T]) -> Iterator[T]:
    yield function()
