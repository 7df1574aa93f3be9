"""`python -m bench.gate.planted`: does the gate find what is planted, and nothing else?

Plants a slowdown of about 30% in the gradient, a loss of capacity in Muon and a tile too large for
the registers, each in a copy of the packages, and compares a revision with itself ten times. Exits
with 1 if the gate errs once.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.cases import QUICK
from bench.gate.check import capacity, speed, spills
from bench.gate.report import Report
from bench.gate.tree import place
from bench.machine import default_device
from bench.registry import matching

SLOWER = """
def softmax_gradient(queries, outputs, targets, *arguments, _once=softmax_gradient, **options):
    some = int({share} * len(outputs))
    _once(queries, outputs[:some], targets % some, *arguments, **options)
    return _once(queries, outputs, targets, *arguments, **options)
"""
FORGETFUL = """
def matrix_sign(matrix, *arguments, _exact=matrix_sign, **options):
    return _exact(matrix.bfloat16().to(matrix.dtype), *arguments, **options)
"""
SPILLING = """
TABLE["rank", "half"][90] = [(256, 256, 64, 4, 2)]
"""
COMPARISONS = 10


def slower(tree: Path, share: float) -> Path:
    """Let the gradient of a tree go over a share of the outputs twice.

    What every call costs comes on top: a fifth of the outputs is 32% of the time on a CPU.
    """
    return _append(tree, "kernels/memsolve_kernels/__init__.py", SLOWER.format(share=share))


def forgetful(tree: Path) -> Path:
    """Round what the matrix sign of a tree is given to bfloat16: Muon stores less."""
    return _append(tree, "kernels/memsolve_kernels/matrix_sign/__init__.py", FORGETFUL)


def spilling(tree: Path) -> Path:
    """Give the rank kernel of a tree, on sm_90, a tile that its registers cannot hold."""
    return _append(tree, "kernels/memsolve_kernels/softmax/presets.py", SPILLING)


def _append(tree: Path, module: str, code: str) -> Path:
    path = tree / module
    path.write_text(path.read_text() + code)
    return tree


def main() -> int:
    """Run the comparisons; the exit status."""
    argparse.ArgumentParser(prog="python -m bench.gate.planted", description=__doc__).parse_args()
    names = [case.name for case in matching(QUICK, "", default_device())]
    gradient = [name for name in names if name.startswith("softmax_gradient")]
    errors = 0
    with tempfile.TemporaryDirectory() as folder:
        base = place("HEAD", Path(folder, "base"))
        slow = slower(place("HEAD", Path(folder, "slow")), 0.2)
        forgot = forgetful(place("HEAD", Path(folder, "forgot")))
        spilt = spilling(place("HEAD", Path(folder, "spilt")))
        planted = {
            "slowdown of about 30%": Report(),
            "loss of capacity": Report(),
            "spill": Report(),
        }
        speed(base, slow, gradient, planted["slowdown of about 30%"])
        capacity(base, forgot, planted["loss of capacity"])
        spills(base, spilt, planted["spill"], [90])
        for what, report in planted.items():
            errors += not report.failures
            print(f"{what}: {'found' if report.failures else 'MISSED'}")
            print("\n".join(f"  {line}" for line in report.lines), flush=True)
        for turn in range(COMPARISONS):
            report = Report()
            speed(base, base, names, report)
            errors += bool(report.failures)
            print(f"A/A {turn + 1}: {'FAILS' if report.failures else 'passes'}", flush=True)
            print("\n".join(f"  {line}" for line in report.lines))
    return int(errors > 0)


if __name__ == "__main__":
    sys.exit(main())
