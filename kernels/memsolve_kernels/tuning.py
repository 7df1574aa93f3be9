"""Opt-in: inside `tuning()`, the fastest of several ways is found by timing, once a kind of call.

The presets are the default, since timing costs a compilation a candidate, and since its outcome,
and so the rounding of a result, may differ between runs.
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
_chosen: dict[Hashable, Any] = {}


@contextmanager
def tuning() -> Iterator[None]:
    """Time the candidates of every call in the block that has not been timed yet (on a GPU).

    What was found serves for the rest of the process, outside the block too.
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
    """The first candidate, or the fastest for calls like `key` once those have been timed.

    Args:
        key: what calls have in common that share a choice.
        candidates: ways to make the call; the first is the default. Not walked unless timed.
        run: makes the call; a candidate that does not fit raises ValueError, or what Triton raises.
        timer: milliseconds of a call (default: Triton's, which needs a GPU).
    """
    if key not in _chosen:
        if not _active.get():
            return next(iter(candidates))
        _chosen[key] = min(candidates, key=lambda candidate: _milliseconds(run, candidate, timer))
        logging.getLogger(__name__).info("%s: %s", key, _chosen[key])
    chosen: Candidate = _chosen[key]
    return chosen


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
