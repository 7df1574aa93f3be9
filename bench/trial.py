"""A case made ready: its inputs, its truth, and each way judged at its first call and its last."""

from functools import wraps
from typing import Any, NamedTuple

from bench.measure import clock, extra_bytes, multiplying
from bench.registry import OURS, Case, Result, Run, Unsupported, Way, relative_error


class Verdict(NamedTuple):
    """What a result is worth.

    Attributes:
        status: "ok", "bound", "wrong result", "failed" or "skipped"; only the first two have times.
        note: why there is no number, or what else is in it.
        error: relative error against float64; None where it is not compared.
    """

    status: str
    note: str = ""
    error: float | None = None

    @property
    def timed(self) -> bool:
        """Whether it may have a time."""
        return self.status in ("ok", "bound")


class Checked(NamedTuple):
    """A way after its first call: its seconds, compilation included, and a run if it is timed."""

    verdict: Verdict
    first: float | None = None
    run: Run | None = None


class Guarded:
    """A run that is not called again once it has failed, so that the others can go on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.failure: Exception | None = None

    def __call__(self) -> None:
        if self.failure is None:
            try:
                self.run()
            except Exception as raised:
                self.failure = raised


class Trial:
    """A case with its inputs, their truth in float64, and the clock of its device."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.clock = clock(case.device)
        self.inputs = case.inputs()
        self.truth = case.function.reference(self.inputs)

    def check(self, way: Way) -> Checked:
        """Prepare a way, call it once, and hold the result against the truth."""
        try:
            run = self._in_format(way)
            result, first = self.clock.first(run)
            verdict = self.judge(way, result)
        except Unsupported as reason:
            return Checked(Verdict("skipped", str(reason)))
        except Exception as raised:
            return Checked(failed(raised))
        return Checked(verdict, first, run if verdict.timed else None)

    def settle(self, way: Way, guarded: Guarded, first: Verdict) -> tuple[Verdict, int | None]:
        """The verdict after sampling, with the larger error, and the bytes beyond the inputs.

        A way that has failed since, or is wrong by now, has no number.
        """
        try:
            if guarded.failure is not None:
                raise guarded.failure
            extra = extra_bytes(guarded.run, self.case.device)
            last = self.judge(way, guarded.run())
        except Exception as raised:
            return failed(raised), None
        if not last.timed:
            return last._replace(note=f"{last.note}, after it was right at first"), None
        return max(first, last, key=lambda verdict: verdict.error or 0.0), extra

    def judge(self, way: Way, result: Result) -> Verdict:
        """Whether a result is within the format's tolerance."""
        if way.bound:
            return Verdict("bound")
        error, tolerance = relative_error(result, self.truth), self.case.format.tolerance
        if error <= tolerance:
            return Verdict("ok", error=error)
        said = f"relative error {error:.1e}, tolerance {tolerance:.0e}"
        return Verdict("wrong result", said, error)

    def _in_format(self, way: Way) -> Run:
        """Let torch multiply float32 in tf32 where that is the format; ours is told by argument."""
        run = way.prepare(self.inputs)
        if self.case.format.name != "tf32" or way.name.startswith(OURS):
            return run

        @wraps(run)
        def in_tf32() -> Any:
            with multiplying("high"):
                return run()

        return in_tf32


def failed(raised: Exception) -> Verdict:
    """The verdict on what raised, in a line."""
    return Verdict("failed", f"{type(raised).__name__}: {raised}".splitlines()[0])
