"""What a command and a worker import: seconds of CPU time in every process."""

import subprocess
import sys

from memsolve.version import version_of

VERSION = """
import sys
sys.argv = ["memsolve", "--version"]
from memsolve.__main__ import main
try:
    main()
finally:
    print(*sys.modules)
"""

WORKER = """
import sys
import memsolve.engine.execution.local, memsolve.examples.factual_recall.comparison
from memsolve.study import Grid, capacity
print(*sys.modules)
grid = Grid(["sgd", "muon"], dims=[8], seeds=1, device="cpu")
assert len(list(capacity.measure(grid, capacity.cells(grid)))) == 2
print(*sys.modules)
"""

REPORT = {"jinja2", "matplotlib", "rich", "scipy", "typer"}
"""Packages for estimates, tables and figures, which the process that runs a study makes."""


def output(program: str) -> list[str]:
    """The lines that a program prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_version_needs_no_torch() -> None:
    version, modules = output(VERSION)
    assert version == f"memsolve {version_of('memsolve')}"
    assert REPORT.union(["numpy", "torch"]).isdisjoint(modules.split())


def test_a_worker_needs_no_package_for_reports() -> None:
    imported, measured = (set(line.split()) for line in output(WORKER))
    assert "torch._dynamo" not in imported  # torch imports it with its first optimizer
    assert REPORT.isdisjoint(measured)
