"""How accurate an orthogonalisation must be: what inexact Muons store of what the exact one does.

The gradient's singular values span many orders of magnitude, because the frequencies do; a Muon
that does not flatten the small ones does not store the facts that live there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memsolve.optim.named import by_label
from memsolve.study.capacity import population_cells, recovered_fits
from memsolve.study.fit import bootstrap
from memsolve.study.grid import Grid
from memsolve.study.run import run
from memsolve.study.summary import Fit, Summary

EXACT = "muon:backend=reference"
"""The yardstick: the polar factor by a singular value decomposition."""

VARIANTS = (
    EXACT,
    "muon",
    *(f"muon:schedule=muon:steps={steps}" for steps in (5, 8, 12)),
    "muon:schedule=muon:steps=5:dtype=bfloat16",
    *(f"muon:schedule=polar-express:steps={steps}" for steps in (5, 8)),
    "muon:schedule=polar-express:steps=8:dtype=bfloat16",
    *(f"muon:lower={lower}" for lower in ("1e-2", "1e-3", "1e-4", "1e-6")),
    *(f"muon:relative_damping={damping}" for damping in ("1e-1", "1e-2", "1e-3", "1e-4", "1e-6")),
    *(f"muon:dtype={dtype}" for dtype in ("float32", "float16", "bfloat16")),
    *(f"{EXACT}:gradient_dtype={dtype}" for dtype in ("float32", "float16", "bfloat16")),
)
"""Schedule and steps, damping, precision of the sign, and precision of the gradient."""


def precision(grid: Grid, out: Path | str | None = None, *, resume: bool = False) -> Summary:
    """Capacity of every optimizer of the grid, as a share of the exact polar factor's.

    Args:
        grid: what to vary; `VARIANTS` are meant for its optimizers. `EXACT` is added if absent.
        out: folder for the cells and `summary.json`; None writes nothing.
        resume: continue what an interrupted run left in `out`.
    """
    if EXACT not in grid.labels:
        grid = replace(grid, optimizers={EXACT: EXACT} | by_label(grid.optimizers))
    folder = None if out is None else Path(out)
    results = run("precision", grid, population_cells(grid), folder, resume=resume)
    fits = recovered_fits(grid, results)
    exact = {fit.alpha: fit for fit in fits if fit.optimizer == EXACT}
    return Summary.of(
        "precision", grid, [_with_share(fit, exact[fit.alpha]) for fit in fits], folder
    )


def _with_share(fit: Fit, exact: Fit) -> Fit:
    """Add to each point the share of the exact count; seeds are compared with themselves."""

    def share(point: dict[str, Any], yardstick: dict[str, Any]) -> dict[str, Any]:
        pairs = np.array([point["recovered"], yardstick["recovered"]], dtype=float).T
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate = bootstrap([pairs], lambda draws: np.divide(*draws[0].sum(1).T))
        shares = {"share": estimate.value, "share_low": estimate.low, "share_high": estimate.high}
        return point | shares

    points = [share(*pair) for pair in zip(fit.points, exact.points, strict=True)]
    return replace(fit, points=points)
