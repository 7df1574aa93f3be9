"""The outcome of a study: its fits with theory's exponents, and how they were measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from memsolve_kernels.errors import InputError

from memsolve.checks import check_axes
from memsolve.engine.results.estimate import Estimate
from memsolve.engine.storage.decode import from_json
from memsolve.environment import Environment
from memsolve.theory import Law

SUMMARY_LAYOUT = 3
"""Of `summary.json`. Layouts 1 and 2 had no grid, and other names in points."""


@dataclass(frozen=True)
class Point:
    """What was measured at one `d`; every study has a subclass of its own.

    Attributes:
        axes: of its lists by name: `"T S"` for a list over steps of lists over seeds; see
            `checks.check_axes`.
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
    """The fit of one optimizer at one alpha.

    Attributes:
        optimizer: its label.
        alpha: exponent of the frequencies.
        quantity: what grows with `d`.
        estimate: its exponent in `d`, with the interval.
        law: the predicted exponent, or None where there is no law.
        points: what was measured at each `d`.
        batch_size: of a study with a fit for each batch size; None for the population, and in
            studies whose points hold all batch sizes.
    """

    optimizer: str
    alpha: float
    quantity: str
    estimate: Estimate
    law: Law | None
    points: list[P]
    batch_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of `summary.json`."""
        return {
            "optimizer": self.optimizer,
            "alpha": self.alpha,
            "batch_size": self.batch_size,
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
        """The inverse of `as_json`.

        Raises:
            ValueError: a field of another type.
        """
        record = from_json(FitRecord, entry)
        law = None if record.theory is None else Law(record.theory, record.status or "")
        return cls(
            record.optimizer,
            record.alpha,
            record.quantity,
            Estimate(record.exponent, record.low, record.high, record.note, record.doubts),
            law,
            [from_json(point, fields) for fields in record.points],
            record.batch_size,
        )


@dataclass(frozen=True)
class FitRecord:
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
    batch_size: int | None = None


class Failure(NamedTuple):
    """Failed cells of one optimizer at one alpha and `d`.

    Attributes:
        optimizer, alpha, dim: of the cells.
        cells: how many.
        reason: of the first of them, in the optimizer's words.
        machine: the machine failed, not the optimizer, and the cells have no result.
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
    """All fits of a study. The same command gives the same numbers, except for times.

    Attributes:
        study: its name.
        command: the command line, or the call, that measures these numbers.
        environment: versions and hardware.
        fits: one for each optimizer and alpha without failed cells.
        remarks: peculiarities of optimizers' first steps, by label.
        refused: why other optimizers could not be used, by label.
        failed: failed cells.
        differences: how the settings of merged studies differ; not on disk.
        unidentified: optimizers that are measured anew in every run, by label, with the part of
            each that cannot be identified.
        grid: what the study varied, as JSON (`Grid.as_json`); of a merged summary that of the
            first study.
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
    grid: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "layout": SUMMARY_LAYOUT,
            "study": self.study,
            "command": self.command,
            "grid": self.grid,
            "environment": self.environment,
            "fits": [fit.as_json() for fit in self.fits],
            "remarks": self.remarks,
            "refused": self.refused,
            "failed": [failure._asdict() for failure in self.failed],
            "unidentified": self.unidentified,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], point: type[P]) -> "Summary[P]":
        """The inverse of `as_json`.

        Raises:
            InputError: the content is no summary of such points, or of another layout.
        """
        try:
            record = from_json(SummaryRecord, content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the summary is not one of a finished study: {error}") from error
        if record.layout != SUMMARY_LAYOUT:
            version = record.environment.get("memsolve", "of an unknown version")
            raise InputError(
                f"the summary was written by memsolve {version} in a layout that this version "
                f"does not read; use that version, or run the study again, whose command was: "
                f"{record.command}"
            )
        try:
            fits = [Fit.from_json(entry, point) for entry in record.fits]
            if not fits or not fits[0].points:
                raise ValueError("no fits, or none with points")
            if len({tuple(point.dim for point in fit.points) for fit in fits}) > 1:
                raise ValueError("fits of different dimensions")
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"the summary is not one of a finished study that this version reads: {error}; run "
                f"the study again, whose command was: {record.command}"
            ) from error
        fields = {name: value for name, value in vars(record).items() if name != "layout"}
        return cls(**(fields | {"fits": fits}))


@dataclass(frozen=True)
class SummaryRecord:
    """A summary as `summary.json` has it."""

    study: str
    command: str
    environment: Environment
    fits: list[Any]
    layout: int = 1
    grid: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    unidentified: dict[str, str] = field(default_factory=dict)
