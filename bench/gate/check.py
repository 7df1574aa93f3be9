"""The comparisons of the gate, each over two trees."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import compiled, quantities
from bench.gate.report import Report
from bench.gate.timing import Three, Timing, compare
from bench.gate.tree import WorkerError, workers
from bench.quantities import HIGHER_IS_BETTER

SPEED, CAPACITY, SPILLS = "speed", "capacity", "spills"
ALLOWED_LOSS = {"recovered": 0.01, "saturation_batch_size": 0.03}
"""Share that a change of rounding may cost: an item at the edge of recovery, and its power."""


def speed(base: Path, head: Path, cases: Sequence[str], report: Report) -> None:
    """Time every case; what looks slower is timed once more, and that decides."""
    for case in cases:
        first = ""
        timing = _timing(base, head, case, report)
        if timing is not None and timing.slower:
            first = f"{timing}; once more: "
            timing = _timing(base, head, case, report)
        if timing is not None:
            told = timing.slower or timing.conclusive
            text = f"{case}: {first}{timing}{'' if told else ': too noisy to tell'}"
            report.add(SPEED, text, failed=timing.slower, compared=told)


def _timing(base: Path, head: Path, case: str, report: Report) -> Timing | None:
    """A case in fresh processes; None where there is nothing to compare: the report says why."""
    try:
        with workers(base, base, head) as running:
            before, again, after = running
            new = after.ask("load", case=case)
            if new["status"] in ("wrong result", "failed"):
                report.add(SPEED, f"{case}: {new['status']}: {new['note']}", failed=True)
                return None
            old, _ = (worker.ask("load", case=case) for worker in (before, again))
            if old["status"] != "ok":
                text = f"{case}: base: {old['status']}: {old['note']}"
                report.add(SPEED, text, compared=False)
            elif new["status"] != "ok":
                report.add(SPEED, f"{case}: lost: {new['note']}", failed=True)
            else:
                return compare(Three(*(partial(w.ask, "sample", case=case) for w in running)))
    except WorkerError as error:
        _blame(report, SPEED, f"{case}: ", error, head)
    return None


def capacity(
    base: Path,
    head: Path,
    report: Report,
    dims: Sequence[int] = quantities.DIMS,
    seeds: int = quantities.SEEDS,
) -> None:
    """Compare what optimizers store."""
    asked = {"dims": list(dims), "seeds": seeds}
    found = _ask_both(base, head, report, CAPACITY, "quantities", **asked)
    if found is None:
        return
    before, after = found
    for optimizer in before:
        if optimizer not in after:
            report.add(CAPACITY, f"{optimizer}: lost: base has it, head does not", failed=True)
            continue
        for name in HIGHER_IS_BETTER:
            old, new = before[optimizer][name], after[optimizer][name]
            identified = old == old
            lower = identified and not new >= old * (1 - ALLOWED_LOSS[name])
            text = f"{optimizer} {name}: {old:.4g} -> {new:.4g}"
            report.add(CAPACITY, text, failed=lower, compared=identified)


def spills(
    base: Path,
    head: Path,
    report: Report,
    architectures: Sequence[int] = compiled.ARCHITECTURES,
) -> None:
    """Compare the bytes of spilled registers of every variant, unless no kernel has changed."""
    if _sources(base) == _sources(head):
        report.add(SPILLS, "the kernels are the same")
        return
    asked = {"architectures": list(architectures)}
    found = _ask_both(base, head, report, SPILLS, "compiled", **asked)
    if found is None:
        return
    before, after = found
    shared = [name for name in before if name in after]
    worse = [name for name in shared if after[name]["stack"] > before[name]["stack"]]
    for name in worse:
        text = f"{name}: {before[name]['stack']} -> {after[name]['stack']} bytes"
        report.add(SPILLS, text, failed=True)
    new = [name for name in after if name not in before and after[name]["stack"]]
    for name in new:
        report.add(SPILLS, f"{name}: new, with {after[name]['stack']} bytes", failed=True)
    report.add(SPILLS, f"{len(shared)} variants in both", compared=bool(shared))


def _sources(tree: Path) -> dict[Path, bytes]:
    files = (tree / "kernels").rglob("*.py")
    return {path.relative_to(tree): path.read_bytes() for path in files}


def _ask_both(
    base: Path, head: Path, report: Report, kind: str, verb: str, **arguments: Any
) -> tuple[Any, Any] | None:
    """Both answers; None where one is missing, and the report says whether that is a failure."""
    try:
        with workers(base, head) as (before, after):
            old = before.ask(verb, **arguments)
            if old is None:
                report.add(kind, "not at base", compared=False)
                return None
            new = after.ask(verb, **arguments)
            if new is None:
                report.add(kind, "lost: base has it, head does not", failed=True)
                return None
            return old, new
    except WorkerError as error:
        _blame(report, kind, "", error, head)
        return None


def _blame(report: Report, kind: str, what: str, error: WorkerError, head: Path) -> None:
    """Head must not fail; where base does, there is nothing to compare with."""
    lost = error.tree == head
    text = f"{what}{'head' if lost else 'base'} fails: {error}"
    report.add(kind, text, failed=lost, compared=lost)
