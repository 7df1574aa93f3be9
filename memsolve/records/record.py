"""A record: one optimizer on the leaderboard, as a file that carries all that a check needs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from memsolve_kernels.errors import InputError

from memsolve.engine.results.summary import Fit
from memsolve.engine.storage.decode import from_json
from memsolve.engine.storage.folder import read
from memsolve.environment import Environment
from memsolve.study.leaderboard.point import LeaderboardPoint

FORMAT = 1
"""Of a record's file."""

MAX_BYTES = 60_000
"""Of a record's file."""

NOT_HASHED = "sha256", "label", "verification"
"""Fields that a verification may change."""

GRID_OPTIONS = "tracks", "alphas", "dims", "seeds", "first_seed", "quick", "device"
"""Fields of the grid that an entry may choose; the others are the rules of the leaderboard."""

OPTIMIZERS = "optimizers", "sweep"
"""Fields of the grid that say what was measured."""

Kind = Literal["entry", "sceptical"]


class EditedError(InputError):
    """A record whose content is not the content that was hashed."""


@dataclass(frozen=True)
class Source:
    """The code of an optimizer.

    Attributes:
        files: lines of its local modules, by path, as `my_package/mine.py`.
        packages: versions of the installed distributions that it uses besides memsolve and torch.
    """

    files: dict[str, list[str]]
    packages: dict[str, str]


@dataclass(frozen=True)
class Verification:
    """A rerun that reproduced a record.

    Attributes:
        date: of the rerun, as `2026-11-30`.
        problems: how many problems were run again.
        total: how many problems the record has.
        exact: every number was the recorded one; otherwise all means were within the intervals.
        environment: of the rerun.
    """

    date: str
    problems: int
    total: int
    exact: bool
    environment: Environment


@dataclass(frozen=True)
class Record:
    """One optimizer on the leaderboard.

    Attributes:
        format: `FORMAT`.
        name: the optimizer's label, with which it is built.
        author: a text.
        kind: an entry, or a sceptical result: a rerun of another record that does not find what
            that one claims.
        claim: in one sentence; may be empty for an entry.
        of: `sha256` of the record that a sceptical result is about; else empty.
        source: the code of the optimizer.
        command: measures the numbers.
        environment: versions and hardware that measured them.
        grid: what was varied, as JSON (`LeaderboardGrid.as_json`).
        fits: entries of `summary.json`, one for each alpha: candidates, counts and losses by seed.
        remark: on the first steps of the optimizer; empty without one.
        core_seconds: processor time of all runs, with the tuning.
        sha256: of the canonical JSON of all fields but `NOT_HASHED`.
        verification: the rerun that reproduced it; None if it is only reported.
    """

    format: int
    name: str
    author: str
    kind: Kind
    claim: str
    of: str
    source: Source
    command: str
    environment: Environment
    grid: dict[str, Any]
    fits: list[Any]
    remark: str
    core_seconds: float
    sha256: str = ""
    verification: Verification | None = field(default=None)

    @property
    def label(self) -> str:
        """How far its numbers have been checked."""
        return "reported" if self.verification is None else "verified"

    @property
    def rules(self) -> dict[str, Any]:
        """The rules that it was measured by, see `rules_of`."""
        return rules_of(self.grid)

    def load_fits(self) -> list[Fit[LeaderboardPoint]]:
        """One fit for each alpha.

        Raises:
            InputError: a fit that this version does not read.
        """
        try:
            return [Fit.from_json(entry, LeaderboardPoint) for entry in self.fits]
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"the record of {self.name!r} holds fits that this version of memsolve does not "
                f"read: {error}; it was measured with memsolve "
                f"{self.environment.get('memsolve', 'of an unknown version')}"
            ) from error

    def as_json(self) -> dict[str, Any]:
        """The content of its file, with the hash of the present content."""
        content = {**asdict(self), "label": self.label}
        return {**content, "sha256": hash_content(content)}


def rules_of(grid: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a leaderboard, as JSON, that no entry chooses."""
    free = *GRID_OPTIONS, *OPTIMIZERS
    return {name: value for name, value in grid.items() if name not in free}


def hash_content(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a record's content, without the fields `NOT_HASHED`."""
    hashed = {name: value for name, value in content.items() if name not in NOT_HASHED}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def format_record(record: Record) -> str:
    """The text of a record's file: fields one below the other, fits one a line.

    Raises:
        InputError: it is longer than `MAX_BYTES`.
    """
    content = record.as_json()
    fits = ",\n  ".join(json.dumps(entry, separators=(",", ":")) for entry in content.pop("fits"))
    body = json.dumps(content, indent=1, sort_keys=True).removesuffix("\n}")
    text = f'{body},\n "fits": [\n  {fits}\n ]\n}}\n'
    if len(text.encode()) > MAX_BYTES:
        lengths = {name: sum(map(len, lines)) for name, lines in record.source.files.items()}
        longest = max(lengths, key=lambda name: lengths[name], default="")
        advice = f"; the longest file of its source is {longest}" if longest else ""
        raise InputError(
            f"the record of {record.name!r} takes {len(text.encode())} bytes; expected at most "
            f"{MAX_BYTES}{advice}: put the optimizer into a module of its own that imports little"
        )
    return text


def read_record(path: Path) -> Record:
    """Read a record, and check its hash.

    Raises:
        EditedError: it was edited after it was written.
        InputError: there is no such file, or it holds no record of this format.
    """
    if (data := read(path)) is None:
        raise InputError(f"{path} does not exist; expected a record, as records/NAME.json")
    try:
        content = json.loads(data.decode())
        record = from_json(Record, content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no record: {error}") from error
    if record.format != FORMAT:
        raise InputError(
            f"{path} has format {record.format}; this version of memsolve reads format {FORMAT}: "
            "submit the entry again"
        )
    if record.sha256 != hash_content(content):
        raise EditedError(
            f"{path} was edited after it was written: its SHA-256 is {hash_content(content)[:16]}, "
            f"but it states {record.sha256[:16]}; submit the entry again instead of editing it"
        )
    return record


def read_records(folder: Path) -> dict[str, Record]:
    """All records of a folder, by file name without suffix, in the order of names.

    Raises:
        InputError: there are none, or one of them cannot be read.
    """
    records = {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}
    if not records:
        raise InputError(f"{folder} holds no records; expected files NAME.json")
    return records
