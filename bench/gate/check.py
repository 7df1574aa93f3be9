"""The comparisons of the gate, each over two trees."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench import compiled, quantities
from bench.gate.timing import Timing, compare
from bench.gate.worker import WorkerError, load, sample, workers

SPEED, CAPACITY, SPILLS, CYCLES = "speed", "capacity", "spills", "cycles"
FAILED, PASSED, ABSENT = "FAIL", "ok", "-"  # the last: there was nothing to compare
MORE_CYCLES = 1.10  # by count, that pass
ALLOWED_LOSS = {"recovered": 0.01, "saturation_batch_size": 0.03}
"""Share that a change of rounding may cost: an item at the edge of recovery, and its power."""


class Finding(NamedTuple):
    """One line of what the gate found."""

    kind: str
    outcome: str
    text: str

    def __str__(self) -> str:
        return f"{self.outcome:<5}{self.kind}: {self.text}"


def told(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The same, printed as they come."""
    for finding in findings:
        print(finding, flush=True)
        yield finding


def speed(base: Path, head: Path, cases: Iterable[str]) -> Iterator[Finding]:
    """Time every case; what looks slower is timed once more, and that decides."""
    for case in cases:
        found = _timing(base, head, case)
        first = ""
        if isinstance(found, Timing) and found.slower:
            first = f"{found}; once more: "
            found = _timing(base, head, case)
        yield found if isinstance(found, Finding) else _judged(case, first, found)


def _judged(case: str, first: str, timing: Timing) -> Finding:
    text = f"{case}: {first}{timing}"
    if timing.slower:
        return Finding(SPEED, FAILED, text)
    if timing.conclusive:
        return Finding(SPEED, PASSED, text)
    return Finding(SPEED, ABSENT, f"{text}: too noisy to tell")


def _timing(base: Path, head: Path, case: str) -> Timing | Finding:
    """A case in fresh processes; why not, where there is nothing to compare."""
    try:
        with workers(base, base, head) as running:
            before, again, after = running
            new, why_new = after.ask(load, case)
            if new in ("wrong result", "failed"):
                return Finding(SPEED, FAILED, f"{case}: {new}: {why_new}")
            (old, why_old), _ = (worker.ask(load, case) for worker in (before, again))
            if old != "ok":
                return Finding(SPEED, ABSENT, f"{case}: base: {old}: {why_old}")
            if new != "ok":
                return Finding(SPEED, FAILED, f"{case}: lost: {why_new}")
            named = zip(("base", "again", "head"), running, strict=True)
            return compare({name: partial(worker.ask, sample) for name, worker in named})
    except WorkerError as error:
        return _blamed(SPEED, f"{case}: ", error, head)


def capacity(
    base: Path,
    head: Path,
    dims: Sequence[int] = quantities.DIMS,
    seeds: int = quantities.SEEDS,
) -> Iterator[Finding]:
    """Compare what optimizers store."""
    answers = _both(CAPACITY, base, head, quantities.quantities, dims, seeds)
    if isinstance(answers, Finding):
        yield answers
        return
    before, after = answers
    for optimizer in before:
        if optimizer not in after:
            yield Finding(CAPACITY, FAILED, f"{optimizer}: lost: base has it, head does not")
            continue
        for name, allowed in ALLOWED_LOSS.items():
            old, new = before[optimizer][name], after[optimizer][name]
            outcome = PASSED if new >= old * (1 - allowed) else FAILED
            identified = old == old
            text = f"{optimizer} {name}: {old:.4g} -> {new:.4g}"
            yield Finding(CAPACITY, outcome if identified else ABSENT, text)


def machine_code(
    base: Path, head: Path, architectures: Sequence[int] | None = None
) -> Iterator[Finding]:
    """Compare what every variant compiles to, unless no kernel has changed."""
    if _sources(base) == _sources(head):
        yield Finding(SPILLS, PASSED, "the kernels are the same")
        return
    answers = _both(SPILLS, base, head, compiled.compiled, architectures)
    if isinstance(answers, Finding):
        yield answers
        return
    yield from spilled(*answers)
    yield from cycles(*answers)


def spilled(before: compiled.Compiled, after: compiled.Compiled) -> Iterator[Finding]:
    """Bytes of spilled registers: none more."""
    for name, read in after.items():
        stack = read["stack"]
        if name not in before and stack:
            yield Finding(SPILLS, FAILED, f"{name}: new, with {stack} bytes")
        elif name in before and stack > before[name]["stack"]:
            yield Finding(SPILLS, FAILED, f"{name}: {before[name]['stack']} -> {stack} bytes")
    shared = before.keys() & after.keys()
    yield Finding(SPILLS, PASSED if shared else ABSENT, f"{len(shared)} variants in both")


def cycles(before: compiled.Compiled, after: compiled.Compiled) -> Iterator[Finding]:
    """Cycles of the main loop by both bounds, for as many products, so that tiles may change."""
    compared = 0
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if not old.get("products") or not new.get("products"):
            continue  # no products, or not told by the machine code
        compared += 1
        for bound in ("overlap", "serial"):
            was, now = (2**20 * read[bound] / read["products"] for read in (old, new))
            if now > MORE_CYCLES * was:
                text = f"{name}: {bound} {was:.0f} -> {now:.0f} cycles for 2^20 multiply-adds"
                yield Finding(CYCLES, FAILED, text)
    yield Finding(CYCLES, PASSED if compared else ABSENT, f"{compared} variants in both")


def _sources(tree: Path) -> dict[Path, bytes]:
    files = (tree / "kernels").rglob("*.py")
    return {path.relative_to(tree): path.read_bytes() for path in files}


def _both(
    kind: str, base: Path, head: Path, question: Callable[..., Any], *arguments: Any
) -> tuple[Any, Any] | Finding:
    """Both answers; where one is missing, whether that is a failure."""
    try:
        with workers(base, head) as (before, after):
            if (old := before.ask(question, *arguments)) is None:
                return Finding(kind, ABSENT, "not at base")
            if (new := after.ask(question, *arguments)) is None:
                return Finding(kind, FAILED, "lost: base has it, head does not")
            return old, new
    except WorkerError as error:
        return _blamed(kind, "", error, head)


def _blamed(kind: str, what: str, error: WorkerError, head: Path) -> Finding:
    """Head must not fail; where base does, there is nothing to compare with."""
    if error.tree == head:
        return Finding(kind, FAILED, f"{what}head fails: {error}")
    return Finding(kind, ABSENT, f"{what}base fails: {error}")
