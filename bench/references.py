"""`python -m bench.references FOLDER`: the counts of the references of a finished leaderboard.

They are the constants `RECOVERED` of `memsolve.study.leaderboard.references`.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean

from memsolve.engine.results.load import load_summary
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.ranking import Fits, counts_by_problem
from memsolve.study.leaderboard.references import REFERENCES
from memsolve.study.leaderboard.tracks import RANKED


def lines(fits: Fits) -> list[str]:
    """A line of Python for each problem that all references have."""
    entries = []
    for track in RANKED:
        counts = counts_by_problem(fits, track)
        common = [counts.get(name, {}) for name in REFERENCES]
        for problem in common[0]:
            if all(problem in by_problem for by_problem in common):
                means = ", ".join(f"{fmean(by_problem[problem]):.1f}" for by_problem in common)
                entries.append(f"    Problem{tuple(problem)}: ({means}),")
    return entries


def main() -> int:
    """Print the lines of the leaderboard in a folder."""
    parser = argparse.ArgumentParser(prog="python -m bench.references", description=__doc__)
    parser.add_argument("folder", type=Path)
    print("\n".join(lines(load_summary(leaderboard, parser.parse_args().folder).fits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
