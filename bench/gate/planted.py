"""`python -m bench.gate.planted`: does the gate find what is planted, and nothing else?

Plants a slowdown of about 30% in the gradient, a loss of capacity in Muon, a tile too large for the
registers and, in the log-odds, a mask on every tile and conversions one by one, each in a copy of
the packages, and compares a revision with itself ten times. Exits with 1 if the gate errs once.
"""

import argparse
import sys
from pathlib import Path

from bench.cases import QUICK
from bench.gate.check import FAILED, capacity, machine_code, speed, told
from bench.lifetime import cleaning_up_after_signals, scratch
from bench.registry import default_device, matching
from bench.repository import place

COMPARISONS = 10
ODDS = "kernels/memsolve_kernels/softmax/triton_kernels/odds.py"
PLANTED = {  # in a module, in place of what (the end, if it is empty), and what
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
    # What the matrix sign is given is rounded: Muon stores less.
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


def plant(what: str, tree: Path) -> Path:
    """Put one of `PLANTED` into its module in a tree."""
    module, old, new = PLANTED[what]
    path = tree / module
    text = path.read_text()
    if old not in text:
        raise ValueError(f"{module} has not what {what!r} replaces: adapt bench/gate/planted.py")
    path.write_text(text.replace(old, new, 1) if old else text + new)
    return tree


def main() -> int:
    """Run the comparisons; the exit status."""
    argparse.ArgumentParser(prog="python -m bench.gate.planted", description=__doc__).parse_args()
    names = [case.name for case in matching(QUICK, "", default_device())]
    gradient = [name for name in names if name.startswith("softmax_gradient")]
    with cleaning_up_after_signals(), scratch() as folder:
        base = place("HEAD", Path(folder, "base"))
        trees = {what: plant(what, place("HEAD", Path(folder, what))) for what in PLANTED}
        comparisons = {
            "slower": speed(base, trees["slower"], gradient),
            "forgetful": capacity(base, trees["forgetful"]),
        }
        comparisons |= {what: machine_code(base, trees[what], [90]) for what in BY_COUNT}
        comparisons |= {
            f"A/A {turn}": speed(base, base, names) for turn in range(1, COMPARISONS + 1)
        }
        errors = []
        for what, findings in comparisons.items():
            print(f"{what}:")
            found = FAILED in [finding.outcome for finding in told(findings)]
            if found != (what in PLANTED):
                errors.append(what)
    print(f"\nthe gate errs at {', '.join(errors) or 'none of them'}")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
