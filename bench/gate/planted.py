"""`python -m bench.gate.planted`: does the gate find planted regressions, and nothing else?

Plants a slowdown of about 30% in the gradient, a loss of capacity in Muon, a tile too large for the
registers and, in the log-odds, a mask on every tile and conversions one by one, each in a copy of
the packages, and compares a revision with itself ten times. Exits with 1 if the gate errs once.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cases import QUICK
from bench.gate import FAILED, compare_capacity, compare_machine_code, compare_speed
from bench.registry import default_device, select
from bench.repository import extract

COMPARISONS = 10
ODDS = "kernels/memsolve_kernels/softmax/triton_kernels/odds.py"
PLANTED = {  # name: module, text to replace (empty: append), new text
    # Over a fifth of the outputs twice: what every call costs comes on top, 32% of it on a CPU.
    "slower": (
        "kernels/memsolve_kernels/__init__.py",
        "",
        """
def softmax_gradient(queries, outputs, targets, *arguments, _once=softmax_gradient, **options):
    some = len(outputs) // 5
    _once(queries, outputs[:some], targets % some, *arguments, **options)
    return _once(queries, outputs, targets, *arguments, **options)
""",
    ),
    # The argument of the matrix sign is rounded: Muon stores less.
    "forgetful": (
        "kernels/memsolve_kernels/matrix_sign/__init__.py",
        "",
        """
def matrix_sign(matrix, *arguments, _exact=matrix_sign, **options):
    return _exact(matrix.bfloat16().to(matrix.dtype), *arguments, **options)
""",
    ),
    # On sm_90 a tile that the registers of the rank kernel cannot hold.
    "spilling": (
        "kernels/memsolve_kernels/softmax/presets.py",
        "",
        """
TABLE["long_rank", "half"][90] = [(256, 256, 64, 4, 2)]
""",
    ),
    "masked": (
        ODDS,
        """
        if start + BLOCK_N > left_out:
            logit = leave_out(logit, items, num_items, target)
            left_out = first_left_out(start + BLOCK_N, num_items, target)
""",
        """
        logit = leave_out(logit, items, num_items, target)
""",
    ),
    # The sum of rounded weights: each is converted back, and the compiler rounds one by one.
    "unpacked": (
        ODDS,
        """
        norm = tl.dot(weight, ones, norm * decay[:, None], input_precision=PRECISION)
""",
        """
        norm = norm * decay[:, None] + tl.sum(weight.to(tl.float32), 1)[:, None]
""",
    ),
}
BY_COUNT = ("spilling", "masked", "unpacked")


def plant(name: str, tree: Path) -> Path:
    """Edit a tree as `PLANTED` says."""
    module, old, new = PLANTED[name]
    path = tree / module
    text = path.read_text()
    if old not in text:
        raise ValueError(f"{module} lacks the text that {name!r} replaces: adapt {__name__}")
    path.write_text(text.replace(old, new, 1) if old else text + new)
    return tree


def main() -> int:
    """Run the comparisons; the exit status."""
    argparse.ArgumentParser(prog="python -m bench.gate.planted", description=__doc__).parse_args()
    cases = [case.name for case in select(QUICK, "", default_device())]
    gradient = [name for name in cases if name.startswith("softmax_gradient")]
    with TemporaryDirectory() as folder:
        base = extract("HEAD", Path(folder, "base"))
        trees = {name: plant(name, extract("HEAD", Path(folder, name))) for name in PLANTED}
        comparisons = {
            "slower": compare_speed(base, trees["slower"], gradient),
            "forgetful": compare_capacity(base, trees["forgetful"]),
            **{name: compare_machine_code(base, trees[name], [90]) for name in BY_COUNT},
            **{f"A/A {n + 1}": compare_speed(base, base, cases) for n in range(COMPARISONS)},
        }
        errors = []
        for name, findings in comparisons.items():
            print(f"{name}:")
            outcomes = []
            for finding in findings:
                print(finding, flush=True)
                outcomes.append(finding.outcome)
            if (FAILED in outcomes) != (name in PLANTED):
                errors.append(name)
    print(f"\nthe gate errs at {', '.join(errors) or 'none of them'}")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
