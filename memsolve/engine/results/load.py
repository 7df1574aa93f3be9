"""The summary of a finished study on disk."""

import json
from pathlib import Path
from typing import Any

from memsolve_kernels.errors import InputError

from memsolve.engine.results.summary import P, Summary
from memsolve.engine.storage.folder import read, write
from memsolve.engine.study import Study

SUMMARY = "summary.json"


def write_summary(summary: Summary[Any], folder: Path) -> None:
    """Write `summary.json`.

    Raises:
        FolderError: it cannot be written.
    """
    write(folder / SUMMARY, json.dumps(summary.as_json(), indent=1) + "\n")


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of `summary.json`, which names its study.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / SUMMARY
    if (data := read(file)) is None:
        raise InputError(f"{folder} holds no {SUMMARY} of a finished study")
    try:
        content = json.loads(data.decode())
        if not isinstance(content["study"], str):
            raise TypeError("no name")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} is damaged: it holds no finished study; the command of the study writes it "
            "again with --resume"
        ) from error
    return dict(content)


def load_summary(study: Study[Any, Any, Any, P], folder: Path) -> Summary[P]:
    """The summary of a finished study of one kind.

    Raises:
        InputError: the folder holds none.
    """
    content = read_summary(folder)
    if content["study"] != study.name:
        raise InputError(f"{folder} holds a {content['study']} study; expected {study.name}")
    try:
        return Summary.from_json(content, study.point)
    except InputError as error:
        raise InputError(f"{folder / SUMMARY}: {error}") from error
