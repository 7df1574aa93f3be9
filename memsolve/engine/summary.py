"""The outcome of a study: what was fitted, beside theory, and how it was made."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from memsolve_kernels.errors import InputError

from memsolve.engine.fit import Estimate
from memsolve.environment import Environment
from memsolve.theory import Law


@dataclass(frozen=True)
class Point:
    """What was measured at one `d`; every study has a subclass of its own.

    Attributes:
        dim: embedding dimension `d`.
    """

    dim: int


P = TypeVar("P", bound=Point)


@dataclass(frozen=True)
class Fit(Generic[P]):
    """What one optimizer comes to at one alpha.

    Attributes:
        optimizer: its label.
        alpha: exponent of the frequencies.
        quantity: what grows with `d`.
        estimate: its exponent in `d`, and the interval.
        law: the predicted exponent, or None where there is no law.
        points: what was measured at each `d`.
    """

    optimizer: str
    alpha: float
    quantity: str
    estimate: Estimate
    law: Law | None
    points: list[P]

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
            "theory": self.law and self.law.exponent,
            "status": self.law and self.law.status,
            "points": [asdict(point) for point in self.points],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], point: Callable[..., P]) -> "Fit[P]":
        """The inverse of `as_json`; `point` makes a point of its fields."""
        law = entry["theory"]
        return cls(
            entry["optimizer"],
            entry["alpha"],
            entry["quantity"],
            Estimate(entry["exponent"], entry["low"], entry["high"], entry["note"]),
            None if law is None else Law(law, entry.get("status", "")),
            [point(**fields) for fields in entry["points"]],
        )


@dataclass(frozen=True)
class Summary(Generic[P]):
    """All fits of a study. The same command gives the same numbers, interrupted or not; but times.

    Attributes:
        study: its name.
        command: the command line, or the call, that makes these numbers.
        environment: versions and hardware.
        fits: one for each optimizer and alpha.
    """

    study: str
    command: str
    environment: Environment
    fits: list[Fit[P]]

    def as_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "study": self.study,
            "command": self.command,
            "environment": self.environment,
            "fits": [fit.as_json() for fit in self.fits],
        }

    def write(self, folder: Path) -> None:
        """Write `summary.json`."""
        (folder / "summary.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")

    @classmethod
    def from_json(cls, found: Mapping[str, Any], point: Callable[..., P]) -> "Summary[P]":
        """The inverse of `as_json`; `point` makes a point of its fields.

        Raises:
            InputError: this is no summary of such points.
        """
        try:
            fits = [Fit.from_json(entry, point) for entry in found["fits"]]
            if not fits:
                raise ValueError("no fits")
            return cls(found["study"], found["command"], found["environment"], fits)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the summary is not one of a finished study: {error}") from error


def read(folder: Path) -> dict[str, Any]:
    """The content of `summary.json`, its study named.

    Raises:
        InputError: there is none, or it is none.
    """
    try:
        found = json.loads((folder / "summary.json").read_text())
        if not isinstance(found["study"], str):
            raise TypeError("no name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no summary.json of a finished study") from error
    return dict(found)
