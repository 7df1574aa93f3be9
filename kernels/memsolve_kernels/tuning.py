"""Opt-in tuning: inside `tuning()`, the fastest of several candidates is selected by timing.

Presets are the default, since timing costs a compilation per candidate, and since its outcome, and
with it the rounding of a result, may differ between runs.
"""

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Candidate = TypeVar("Candidate")
Timer = Callable[[Callable[[], object]], float]

_active: ContextVar[bool] = ContextVar("active", default=False)
_selected: dict[Hashable, Any] = {}


@contextmanager
def tuning() -> Iterator[None]:
    """Time the candidates of every call in the block whose key has not been timed yet (on a GPU).

    Selections stay in use for the rest of the process, outside the block too.
    """
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)


def fastest(
    key: Hashable,
    candidates: Iterable[Candidate],
    run: Callable[[Candidate], object],
    timer: Timer | None = None,
) -> Candidate:
    """The first candidate, or the fastest one if calls with this key have been timed.

    Args:
        key: identifies calls that share a selection.
        candidates: ways to make the call; the first is the default. Consumed only for timing.
        run: makes the call; raises ValueError, or an error of Triton, if a candidate does not fit.
        timer: measures the milliseconds of a call (default: Triton's, which needs a GPU).
    """
    if key not in _selected:
        if not _active.get():
            return next(iter(candidates))
        _selected[key] = min(candidates, key=lambda candidate: _milliseconds(run, candidate, timer))
        logging.getLogger(__name__).info("%s: %s", key, _selected[key])
    selected: Candidate = _selected[key]
    return selected


def _milliseconds(
    run: Callable[[Candidate], object], candidate: Candidate, timer: Timer | None
) -> float:
    import triton.testing  # the package is absent where there is nothing to tune
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources

    try:
        return float((timer or triton.testing.do_bench)(lambda: run(candidate)))
    except (OutOfResources, CompilationError, ValueError):
        return math.inf
