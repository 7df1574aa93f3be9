"""`python -m bench.tune`: which launch configurations are fastest here, by the clock.

Each case of ours on a GPU is timed as the presets have it, then called once inside `tuning()`, and
timed again. The record, written after each case, is where the presets miss.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from memsolve_kernels.tuning import tuning
from triton.testing import do_bench

from bench import record
from bench.cases import CASES
from bench.registry import Case, matching
from memsolve.environment import environment


class Choices(logging.Handler):
    """Keeps what `memsolve_kernels.tuning` says that it chose."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: list[str] = []

    def emit(self, entry: logging.LogRecord) -> None:
        self.said.append(entry.getMessage())


def tuned(case: Case) -> dict[str, Any]:
    """Milliseconds of a case before and after tuning, and each choice as kind of call: winner."""
    run = case.function.ours.prepare(case.inputs())
    before = float(do_bench(run))
    choices, log = Choices(), logging.getLogger("memsolve_kernels.tuning")
    log.addHandler(choices)
    log.setLevel(logging.INFO)
    try:
        with tuning():
            run()
    finally:
        log.removeHandler(choices)
    after = float(do_bench(run))
    return {"case": case.name, "before": before, "after": after, "chosen": choices.said}


def main() -> None:
    """Tune the cases and write what was found, with all that says how."""
    parser = argparse.ArgumentParser(prog="python -m bench.tune", description=__doc__)
    parser.add_argument("--cases", default="", help="regular expression of the cases' names")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    arguments = parser.parse_args()
    here, found = environment("cuda"), list[dict[str, Any]]()
    for case in matching(CASES, arguments.cases, "cuda"):
        found.append(tuned(case))
        content = {"commit": record.commit(), "machine": here, "cases": found}
        record.write(arguments.out, content)
        print(found[-1], flush=True)


if __name__ == "__main__":
    main()
