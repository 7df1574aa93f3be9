"""The outcome of a study: fitted exponents beside theory, and how they were made."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve import theory
from memsolve.optim.named import by_label
from memsolve.study.environment import Environment, environment
from memsolve.study.fit import Estimate
from memsolve.study.grid import Grid


@dataclass(frozen=True)
class Fit:
    """One exponent in `d`.

    Attributes:
        optimizer: its label.
        alpha: exponent of the frequencies.
        quantity: what grows with `d`.
        estimate: the exponent and its interval.
        theory: the predicted exponent, or None where there is no law.
        points: what was measured at each `d`.
    """

    optimizer: str
    alpha: float
    quantity: theory.Quantity
    estimate: Estimate
    theory: float | None
    points: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The entry of `summary.json`."""
        return {
            "optimizer": self.optimizer,
            "alpha": self.alpha,
            "quantity": self.quantity,
            "exponent": self.estimate.value,
            "low": self.estimate.low,
            "high": self.estimate.high,
            "note": self.estimate.note,
            "theory": self.theory,
            "points": self.points,
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Fit":
        """The inverse of `as_json`."""
        return cls(
            entry["optimizer"],
            entry["alpha"],
            entry["quantity"],
            Estimate(entry["exponent"], entry["low"], entry["high"], entry["note"]),
            entry["theory"],
            entry["points"],
        )


@dataclass(frozen=True)
class Summary:
    """All fits of a study. The same command gives the same summary, interrupted or not.

    Attributes:
        study: "capacity", "saturation" or "precision".
        command: the command line, or the call, that makes these numbers.
        environment: versions and hardware.
        fits: one for each optimizer and alpha.
    """

    study: str
    command: str
    environment: Environment
    fits: list[Fit]

    @classmethod
    def of(cls, study: str, grid: Grid, fits: list[Fit], folder: Path | None) -> "Summary":
        """The summary of a finished study, written to `folder` unless that is None."""
        summary = cls(study, _command(study, grid), environment(grid.device), fits)
        if folder is not None:
            text = json.dumps(summary.as_json(), indent=1)
            (folder / "summary.json").write_text(text + "\n")
        return summary

    @classmethod
    def load(cls, folder: Path) -> "Summary":
        """Read `summary.json` of a finished study.

        Raises:
            InputError: there is none, or it is no summary.
        """
        try:
            found = json.loads((folder / "summary.json").read_text())
            fits = [Fit.from_json(entry) for entry in found["fits"]]
            if not fits:
                raise ValueError("no fits")
            return cls(found["study"], found["command"], found["environment"], fits)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder} holds no summary.json of a finished study") from error

    def as_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "study": self.study,
            "command": self.command,
            "environment": self.environment,
            "fits": [fit.as_json() for fit in self.fits],
        }


def _command(study: str, grid: Grid) -> str:
    def joined(values: Any) -> str:
        return ",".join(str(value) for value in values)

    choices = by_label(grid.optimizers)
    if any(label != choice for label, choice in choices.items()):
        return f"memsolve.study.{study}(Grid({grid.settings()}))"
    options = [
        ("--alpha", joined(grid.alphas)),
        ("--dims", joined(grid.dims)),
        ("--optimizers", joined(grid.labels)),
        ("--seeds", str(grid.seeds)),
    ]
    if grid.num_items is not None:
        options.append(("--num-items", str(grid.num_items)))
    if grid.batch_sizes is not None:
        options.append(("--batch-sizes", joined(sorted(grid.batch_sizes))))
    options += [("--device", grid.device), ("--dtype", grid.dtype)]
    return shlex.join(["memsolve", study, *(part for option in options for part in option)])
