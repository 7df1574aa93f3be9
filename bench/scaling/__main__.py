"""`python -m bench.scaling`: draw the figure of `docs/scaling.md`.

Its tables are written by `python -m bench.readme`.
"""

import argparse
from pathlib import Path

from bench.repository import ROOT
from bench.scaling.figure import draw
from memsolve.report.drawing import DESKTOP_WIDTH, figure_style
from memsolve.report.page import render


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scaling.png")
    parser.add_argument("--width", type=float, default=DESKTOP_WIDTH, help="in inches")
    options = parser.parse_args()
    with figure_style(options.width):
        options.out.write_bytes(render(draw()).png)


if __name__ == "__main__":
    main()
