"""Records of the optimizers of a finished leaderboard."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from memsolve_kernels.errors import InputError

from memsolve.engine.execution.choose import default_runner
from memsolve.engine.execution.runner import call
from memsolve.engine.results.load import load_summary
from memsolve.engine.results.summary import Summary
from memsolve.engine.storage.folder import read, write
from memsolve.engine.storage.lines import from_line
from memsolve.engine.storage.ownership import CELLS
from memsolve.optimizers.probe import identify
from memsolve.records.record import FORMAT, Record, Source, format_record, read_record
from memsolve.records.source import read_files
from memsolve.study.leaderboard.grid import LeaderboardGrid
from memsolve.study.leaderboard.leaderboard import leaderboard
from memsolve.study.leaderboard.point import LeaderboardPoint

ENVIRONMENT = (
    *("memsolve", "python", "torch", "triton", "numpy", "device", "threads", "platform"),
    *("ranks", "cpu", "driver", "cuda"),
)
"""The part of a summary's environment that is not packages of its optimizers."""


class Code(NamedTuple):
    """The code of an optimizer.

    Attributes:
        source: as a record has it.
        digest: of its bytecode and settings, as results have it; empty if it is not identified.
    """

    source: Source
    digest: str


class Statement(NamedTuple):
    """What an author says about an entry.

    Attributes:
        author: a name, or any text.
        claim: in one sentence.
        of: the record that a sceptical result is about; None for an entry.
    """

    author: str = ""
    claim: str = ""
    of: Path | None = None


def make_records(folder: Path, statement: Statement) -> list[Record]:
    """A record of every optimizer of a finished leaderboard.

    Args:
        folder: of the finished study.
        statement: of the author.

    Raises:
        InputError: the folder holds no finished leaderboard, an optimizer is no name, its code is
            not the one that was measured, or a sceptical result has no claim or another optimizer.
    """
    summary = load_summary(leaderboard, folder)
    check_statement(statement, [fit.optimizer for fit in summary.fits])
    measured = _measured_digests(folder)
    grid = LeaderboardGrid.from_json(summary.grid)
    records = []
    for name in dict.fromkeys(fit.optimizer for fit in summary.fits):
        code = read_code(name, _grid_of(grid, name))
        if code.digest not in {"", *measured.get(str(grid.choices[name]), set())}:
            raise InputError(
                f"the code of optimizer {name!r} is not the one that {folder} was measured with; "
                f"measure it again: --resume continues {folder}"
            )
        records.append(_record(summary, name, code.source, statement))
    return records


def check_statement(statement: Statement, optimizers: Iterable[str]) -> None:
    """Check that a sceptical result has a claim, and is about the optimizer that it measures.

    Raises:
        InputError: it is not so, or the other record cannot be read.
    """
    if statement.of is None:
        return
    if not statement.claim:
        raise InputError("--of makes a sceptical result, which needs a sentence: --claim '...'")
    name = read_record(statement.of).name
    for optimizer in optimizers:
        if optimizer != name:
            raise InputError(
                f"{statement.of} is about optimizer {name!r}; a sceptical result measures that "
                f"one, not {optimizer!r}"
            )


def write_record(record: Record, path: Path) -> None:
    """Write a record into a new file.

    Raises:
        InputError: the file exists, or the record is too long.
    """
    text = format_record(record)
    if path.exists() and path.read_text() != text:
        raise InputError(f"{path} exists; choose another file by --name, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text)


def file_name(optimizer: str) -> str:
    """The name of a record's file, without suffix: `torch.optim.AdamW-lr-0.01`."""
    return re.sub(r"[^\w.]+", "-", optimizer, flags=re.ASCII).strip("-.") or "record"


def read_code(name: str, grid: LeaderboardGrid) -> Code:
    """The code of an optimizer, read where it runs: in a process of its own, if that helps."""
    choice = str(grid.choices[name])
    dtype: torch.dtype = getattr(torch, grid.dtype)
    with default_runner(leaderboard, grid, None) as runner:
        identity = call(runner, partial(identify, name, choice, "cpu", dtype))
        files = call(runner, partial(read_files, choice))
    packages = {package: str(version) for package, version in identity.packages.items()}
    digest = "" if identity.unknown else str(identity.content["content"])
    return Code(Source(files, packages), digest)


def _grid_of(grid: LeaderboardGrid, name: str) -> LeaderboardGrid:
    """The grid of one optimizer.

    Raises:
        InputError: it has no name that another process can build it from.
    """
    if not isinstance(grid.choices[name], str):
        raise InputError(
            f"optimizer {name!r} is a class or function under a label; a record needs its import "
            "path, as my_module:Mine"
        )
    return replace(grid, optimizers=[name], sweep=())


def _record(
    summary: Summary[LeaderboardPoint], name: str, source: Source, statement: Statement
) -> Record:
    fits = [fit for fit in summary.fits if fit.optimizer == name]
    grid = _grid_of(LeaderboardGrid.from_json(summary.grid), name)
    return Record(
        format=FORMAT,
        name=name,
        author=statement.author,
        kind="entry" if statement.of is None else "sceptical",
        claim=statement.claim,
        of="" if statement.of is None else read_record(statement.of).sha256,
        source=source,
        command=grid.command(leaderboard.name),
        environment={
            key: summary.environment[key] for key in ENVIRONMENT if key in summary.environment
        },
        grid=_as_json(grid.as_json()),
        fits=_as_json([fit.as_json() for fit in fits]),
        remark=summary.remarks.get(name, ""),
        core_seconds=round(sum(point.core_seconds for fit in fits for point in fit.points), 1),
    )


def _as_json(value: Any) -> Any:
    """A value as a file of JSON gives it back."""
    return json.loads(json.dumps(value))


def _measured_digests(folder: Path) -> Mapping[str, set[str]]:
    """The digests of the code that has results in a folder, by choice of an optimizer."""
    digests: dict[str, set[str]] = {}
    for raw in (read(folder / CELLS) or b"").splitlines():
        line = from_line(raw)
        if line is not None and "key" in line.fields:
            producer = line.fields["environment"]
            name, digest = str(producer.get("optimizer")), str(producer.get("content"))
            digests.setdefault(name, set()).add(digest)
    return digests
