"""The outcome of a study: what was fitted, beside theory, and how it was made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from memsolve_kernels.errors import InputError

from memsolve.engine.checks import check_axes
from memsolve.engine.fit import Estimate
from memsolve.engine.folder import read as read_file
from memsolve.engine.folder import write
from memsolve.engine.plain import from_json
from memsolve.environment import Environment
from memsolve.theory import Law


@dataclass(frozen=True)
class Point:
    """What was measured at one `d`; every study has a subclass of its own.

    Attributes:
        axes: of its lists by name, `"T S"` of one that runs over steps, and within over seeds; what
            they mean is said at `checks.check_axes`.
        dim: embedding dimension `d`.
    """

    axes: ClassVar[Mapping[str, str]] = {}

    dim: int

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim is {self.dim}; expected at least 1")
        check_axes({name: (axes, getattr(self, name)) for name, axes in self.axes.items()})


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
            "doubts": self.estimate.doubts,
            "theory": self.law and self.law.exponent,
            "status": self.law and self.law.status,
            "points": [asdict(point) for point in self.points],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], point: type[P]) -> "Fit[P]":
        """The inverse of `as_json`; of what has fields of other types, a ValueError."""
        named = from_json(Entry, entry)
        law = None if named.theory is None else Law(named.theory, named.status or "")
        return cls(
            named.optimizer,
            named.alpha,
            named.quantity,
            Estimate(named.exponent, named.low, named.high, named.note, named.doubts),
            law,
            [from_json(point, fields) for fields in named.points],
        )


@dataclass(frozen=True)
class Entry:
    """A fit as `summary.json` has it."""

    optimizer: str
    alpha: float
    quantity: str
    exponent: float | None
    low: float | None
    high: float | None
    note: str
    theory: float | None
    points: list[Any]
    status: str | None = None
    doubts: str = ""


class Failure(NamedTuple):
    """Cells of one optimizer at one place that have failed.

    Attributes:
        optimizer, alpha, dim: the place.
        cells: how many.
        reason: of the first of them, in the optimizer's words.
        machine: the machine failed, and not the optimizer: they have no result.
    """

    optimizer: str
    alpha: float
    dim: int
    cells: int
    reason: str
    machine: bool = False

    def __str__(self) -> str:
        where = f"{self.optimizer} at alpha = {self.alpha:g}, d = {self.dim}"
        return f"{where}: {self.reason} ({self.cells} failed)"


@dataclass(frozen=True)
class Summary(Generic[P]):
    """All fits of a study. The same command gives the same numbers, interrupted or not; but times.

    Attributes:
        study: its name.
        command: the command line, or the call, that makes these numbers.
        environment: versions and hardware.
        fits: one for each optimizer and alpha, but for those with cells that failed.
        remarks: what the first step of an optimizer is, where that is to be known, by label.
        refused: optimizers that could not be used, and why, by label.
        failed: what failed later.
        differences: of one merged of several studies, in what their settings differ; not on disk.
        unidentified: optimizers that are measured anew in every run, because something in them
            cannot be identified, and what that is, by label.
    """

    study: str
    command: str
    environment: Environment
    fits: list[Fit[P]]
    remarks: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    differences: str = ""
    unidentified: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "study": self.study,
            "command": self.command,
            "environment": self.environment,
            "fits": [fit.as_json() for fit in self.fits],
            "remarks": self.remarks,
            "refused": self.refused,
            "failed": [failure._asdict() for failure in self.failed],
            "unidentified": self.unidentified,
        }

    def write(self, folder: Path) -> None:
        """Write `summary.json`."""
        write(folder / "summary.json", json.dumps(self.as_json(), indent=1) + "\n")

    @classmethod
    def from_json(cls, found: Mapping[str, Any], point: type[P]) -> "Summary[P]":
        """The inverse of `as_json`.

        Raises:
            InputError: this is no summary of such points.
        """
        try:
            told = from_json(Told, found)
            fits = [Fit.from_json(entry, point) for entry in told.fits]
            if not fits or not fits[0].points:
                raise ValueError("no fits, or none with points")
            if len({tuple(place.dim for place in fit.points) for fit in fits}) > 1:
                raise ValueError("fits of different dimensions")
        except (ValueError, RecursionError) as error:
            raise InputError(f"the summary is not one of a finished study: {error}") from error
        return cls(**{**vars(told), "fits": fits})


@dataclass(frozen=True)
class Told:
    """A summary as `summary.json` has it."""

    study: str
    command: str
    environment: Environment
    fits: list[Any]
    remarks: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    unidentified: dict[str, str] = field(default_factory=dict)


def read(folder: Path) -> dict[str, Any]:
    """The content of `summary.json`, its study named.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / "summary.json"
    if (content := read_file(file)) is None:
        raise InputError(f"{folder} holds no summary.json of a finished study")
    try:
        found = json.loads(content.decode())
        if not isinstance(found["study"], str):
            raise TypeError("no name")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} is damaged: it holds no finished study; the command of the study writes it "
            "again with --resume"
        ) from error
    return dict(found)
