"""Records of a tiny leaderboard, to test submissions, verifications and the site."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memsolve.engine.run import run
from memsolve.records.record import Record
from memsolve.records.submit import Statement, make_records
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard

MINE = '''"""An optimizer of a user, with a local helper."""

import torch

from mine_helpers.scaling import scaled


class Mine(torch.optim.Optimizer):
    """Gradient descent along the sign of the gradient."""

    def __init__(self, params, lr=1.0):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= scaled(parameter.grad.sign(), group["lr"])
'''
SCALING = '''"""A helper."""


def scaled(tensor, factor):
    """A tensor times a factor."""
    return factor * tensor
'''
NAME = "mine_optimizer:Mine"

TINY: dict[str, Any] = {
    "alphas": (1.5,),
    "dims": (8,),
    "seeds": 2,
    "tuning_seeds": 1,
    "candidates": 6,
    "tracks": ("one-step", "full-gradient"),
    "device": "cpu",
}
"""Settings of a leaderboard that takes seconds."""


def write_module(folder: Path) -> None:
    """Write the module of `NAME` and its helper."""
    (folder / "mine_helpers").mkdir()
    (folder / "mine_helpers" / "__init__.py").write_text("")
    (folder / "mine_helpers" / "scaling.py").write_text(SCALING)
    (folder / "mine_optimizer.py").write_text(MINE)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Import the module of `NAME` from a folder; afterwards it is gone."""
    sys.path.append(str(folder))
    try:
        importlib.import_module("mine_optimizer")
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("mine_")]:
            del sys.modules[name]
        importlib.invalidate_caches()


def measure(folder: Path, *optimizers: str, **settings: Any) -> list[Record]:
    """Records of a leaderboard that is measured in a folder."""
    run(leaderboard, LeaderboardGrid(optimizers, **{**TINY, **settings}), folder)
    return make_records(folder, Statement("The tests", "It is an example."))
