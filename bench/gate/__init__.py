"""The comparisons of two trees: is head slower, does it store less, is its machine code worse?

Timings are taken in paired rounds of base, base again and head. `again` is another process with
the same files: its difference from base is noise, of chance and of the layout of a process.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.gate.worker import WorkerError, load, sample, workers
from bench.metrics import DIMS, SEEDS, Metrics, compiled_metrics, storage_metrics
from bench.sampling import Ratio, interleave, paired_ratio

SPEED, CAPACITY, SPILLS, CYCLES = "speed", "capacity", "spills", "cycles"
FAILED, PASSED, ABSENT = "FAIL", "ok", "-"  # the last: there was nothing to compare

TOLERANCE = 1.10  # smaller slowdowns pass
TARGET_ERROR = 1.15  # more rounds are taken while the error is larger
LARGEST_ERROR = 1.25  # below which a slowdown of 30% would have shown
ROUNDS, MOST_ROUNDS = 15, 60
LEVEL = 0.99
MORE_CYCLES = 1.10  # by count, that pass
ALLOWED_LOSS = {"recovered": 0.01, "saturation_batch_size": 0.03}
"""Share that a change of rounding may cost: an item at the edge of recovery, and its power."""


class Finding(NamedTuple):
    """One line of the gate's output."""

    kind: str
    outcome: str
    text: str

    def __str__(self) -> str:
        return f"{self.outcome:<5}{self.kind}: {self.text}"


class Comparison(NamedTuple):
    """How the time of head compares with that of base."""

    change: Ratio  # head's time over base's, with its 99% interval
    noise: float  # of base over itself, as a factor above one

    @property
    def error(self) -> float:
        """How far off the change may be: by the noise, or half its interval."""
        return max(self.noise, math.sqrt(self.change.high / self.change.low))

    @property
    def is_slower(self) -> bool:
        """Beyond the tolerance and the noise, with nearly all of the interval above one."""
        return self.change.value > max(TOLERANCE, self.noise) and self.change.low > 1

    def __str__(self) -> str:
        return "{:.3f} [{:.3f} {:.3f}], noise {:.3f}".format(*self.change, self.noise)


def compare(samplers: Mapping[str, Callable[[], float]]) -> Comparison:
    """Sample `base`, `again` and `head` until the error is small, or for the most rounds."""

    def pending(samples: dict[str, list[float]]) -> Sequence[str]:
        rounds = len(samples["head"])
        if rounds == 0 or rounds % ROUNDS:
            return list(samples)
        done = rounds >= MOST_ROUNDS or comparison(samples).error < TARGET_ERROR
        return () if done else list(samples)

    return comparison(interleave(samplers, pending))


def comparison(samples: Mapping[str, Sequence[float]]) -> Comparison:
    """Of rounds of seconds: head over the mean, in logarithms, of both runs of base."""
    base, again, head = (np.array(samples[name]) for name in ("base", "again", "head"))
    change = paired_ratio(head, np.sqrt(base * again), LEVEL)
    return Comparison(change, paired_ratio(again, base, LEVEL).reach)


def compare_speed(base: Path, head: Path, cases: Iterable[str]) -> Iterator[Finding]:
    """Time every case; one that looks slower is timed once more, and that decides."""
    for case in cases:
        result = _time(base, head, case)
        prefix = f"{case}: "
        if isinstance(result, Comparison) and result.is_slower:
            prefix += f"{result}; once more: "
            result = _time(base, head, case)
        yield result if isinstance(result, Finding) else _judge(prefix, result)


def _judge(prefix: str, result: Comparison) -> Finding:
    if result.is_slower:
        return Finding(SPEED, FAILED, f"{prefix}{result}")
    if result.error < LARGEST_ERROR:
        return Finding(SPEED, PASSED, f"{prefix}{result}")
    return Finding(SPEED, ABSENT, f"{prefix}{result}: too noisy to tell")


def _time(base: Path, head: Path, case: str) -> Comparison | Finding:
    """A case in fresh processes; why not, where there is nothing to compare."""
    try:
        with workers(base, base, head) as running:
            base_worker, again, head_worker = running
            new, note = head_worker.call(load, case)
            if new in ("wrong result", "failed"):
                return Finding(SPEED, FAILED, f"{case}: {new}: {note}")
            (old, old_note), _ = (worker.call(load, case) for worker in (base_worker, again))
            if old != "ok":
                return Finding(SPEED, ABSENT, f"{case}: base: {old}: {old_note}")
            if new != "ok":
                return Finding(SPEED, FAILED, f"{case}: lost: {note}")
            names = zip(("base", "again", "head"), running, strict=True)
            return compare({name: partial(worker.call, sample) for name, worker in names})
    except WorkerError as error:
        return _explain(SPEED, f"{case}: ", error, head)


def compare_capacity(
    base: Path, head: Path, dims: Sequence[int] = DIMS, seeds: int = SEEDS
) -> Iterator[Finding]:
    """Compare how much optimizers store."""
    results = _call_both(CAPACITY, base, head, storage_metrics, dims, seeds)
    if isinstance(results, Finding):
        yield results
        return
    before, after = results
    for optimizer in before:
        if optimizer not in after:
            yield Finding(CAPACITY, FAILED, f"{optimizer}: lost: base has it, head does not")
            continue
        for name, allowed in ALLOWED_LOSS.items():
            old, new = before[optimizer][name], after[optimizer][name]
            outcome = PASSED if new >= old * (1 - allowed) else FAILED
            text = f"{optimizer} {name}: {old:.4g} -> {new:.4g}"
            yield Finding(CAPACITY, ABSENT if math.isnan(old) else outcome, text)


def compare_machine_code(
    base: Path, head: Path, architectures: Sequence[int] | None = None
) -> Iterator[Finding]:
    """Compare every compiled kernel, unless no source has changed."""
    if _sources(base) == _sources(head):
        yield Finding(SPILLS, PASSED, "the kernels are the same")
        return
    results = _call_both(SPILLS, base, head, compiled_metrics, architectures)
    if isinstance(results, Finding):
        yield results
        return
    yield from compare_spills(*results)
    yield from compare_cycles(*results)


def compare_spills(before: Metrics, after: Metrics) -> Iterator[Finding]:
    """Bytes of spilled registers: none more."""
    for name, metrics in after.items():
        stack = metrics["stack"]
        if name not in before and stack:
            yield Finding(SPILLS, FAILED, f"{name}: new, with {stack} bytes")
        elif name in before and stack > before[name]["stack"]:
            yield Finding(SPILLS, FAILED, f"{name}: {before[name]['stack']} -> {stack} bytes")
    shared = before.keys() & after.keys()
    yield Finding(SPILLS, PASSED if shared else ABSENT, f"{len(shared)} variants in both")


def compare_cycles(before: Metrics, after: Metrics) -> Iterator[Finding]:
    """Cycles of the main loop by both bounds, for as many products, so that tiles may change."""
    compared = 0
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if not old.get("products") or not new.get("products"):
            continue  # the kernel has none, or its machine code does not show their size
        compared += 1
        for bound in ("overlap", "serial"):
            was, now = (2**20 * each[bound] / each["products"] for each in (old, new))
            if now > MORE_CYCLES * was:
                text = f"{name}: {bound} {was:.0f} -> {now:.0f} cycles for 2^20 multiply-adds"
                yield Finding(CYCLES, FAILED, text)
    yield Finding(CYCLES, PASSED if compared else ABSENT, f"{compared} variants in both")


def _sources(tree: Path) -> dict[Path, bytes]:
    files = (tree / "kernels").rglob("*.py")
    return {path.relative_to(tree): path.read_bytes() for path in files}


def _call_both(
    kind: str, base: Path, head: Path, function: Callable[..., Any], *arguments: Any
) -> tuple[Any, Any] | Finding:
    """The results of both trees; where one is missing, whether that is a failure."""
    try:
        with workers(base, head) as (before, after):
            if (old := before.call(function, *arguments)) is None:
                return Finding(kind, ABSENT, "not at base")
            if (new := after.call(function, *arguments)) is None:
                return Finding(kind, FAILED, "lost: base has it, head does not")
            return old, new
    except WorkerError as error:
        return _explain(kind, "", error, head)


def _explain(kind: str, prefix: str, error: WorkerError, head: Path) -> Finding:
    """Head must not fail; where base does, there is nothing to compare with."""
    if error.tree == head:
        return Finding(kind, FAILED, f"{prefix}head fails: {error}")
    return Finding(kind, ABSENT, f"{prefix}base fails: {error}")
