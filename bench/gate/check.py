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
    """Time every case; what looks slower is timed once more, in fresh processes."""
    for case, timing in _timings(base, head, cases, report).items():
        if timing.slower:
            found = _timings(base, head, [case], Report())
            again = found.get(case)
            slower = again is not None and again.slower
            report.add(SPEED, f"{case}: {timing}; once more: {again}", failed=slower)
        elif timing.conclusive:
            report.add(SPEED, f"{case}: {timing}")
        else:
            report.add(SPEED, f"{case}: {timing}: too noisy to tell", compared=False)


def _timings(base: Path, head: Path, cases: Sequence[str], report: Report) -> dict[str, Timing]:
    found = {}
    with workers(base, base, head) as running:
        for case in cases:
            before, _, after = (worker.ask("load", case=case) for worker in running)
            if after["status"] in ("wrong result", "failed"):
                report.add(SPEED, f"{case}: {after['status']}: {after['note']}", failed=True)
            elif before["status"] != "ok":
                report.add(SPEED, f"{case}: not at base: {before['note']}", compared=False)
            elif after["status"] != "ok":
                report.add(SPEED, f"{case}: lost: {after['note']}", failed=True)
            else:
                samplers = (partial(worker.ask, "sample", case=case) for worker in running)
                found[case] = compare(Three(*samplers))
    return found


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
    """Both answers; None where base has none, and a failure where only head has none."""
    with workers(base, head) as (before, after):
        try:
            old = before.ask(verb, **arguments)
        except WorkerError as error:
            report.add(kind, f"base fails: {error}", compared=False)
            return None
        if old is None:
            report.add(kind, "not at base", compared=False)
            return None
        try:
            new = after.ask(verb, **arguments)
        except WorkerError as error:
            report.add(kind, f"head fails: {error}", failed=True)
            return None
        if new is None:
            report.add(kind, "lost: base has it, head does not", failed=True)
            return None
        return old, new
