"""The settings that a study was made with, read from its recorded command."""

import ast
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsolve.engine.grid import Grid, options

if TYPE_CHECKING:
    from memsolve.engine.study import Study

UNKNOWN = "unknown"

MAKES_OPTIMIZERS = "optimizers", "sweep"
"""They decide what is ranked, not how it is measured."""


def differences(study: "Study[Any, Any, Any]", made: Sequence[tuple[Path, str]]) -> str:
    """In what the settings of studies of one kind differ: `settings differ (a / b): steps 4 / 5`.

    Those come first that no cell carries, since they make numbers incomparable.

    Args:
        study: their kind.
        made: the folder and the recorded command of each.
    """
    kind = type(study.grid)
    told = [settings(kind, command) for _, command in made]
    named = sorted(options(kind), key=lambda entry: entry[1].in_cells)
    found = [
        f"{option.flag.removeprefix('--')} {' / '.join(each[name] for each in told)}"
        for name, option in named
        if name not in MAKES_OPTIMIZERS and len({each[name] for each in told}) > 1
    ]
    folders = " / ".join(folder.name for folder, _ in made)
    return f"settings differ ({folders}): {'; '.join(found)}" if found else ""


def settings(kind: type[Grid], command: str) -> dict[str, str]:
    """The settings of a command, or call, as `Grid.command` makes it: its texts by field."""
    texts = given(kind, command)
    return {name: texts.get(name, "default") for name, _ in options(kind)}


def given(kind: type[Grid], command: str) -> dict[str, str]:
    """The settings that a command gives, its texts by field; all `UNKNOWN` if it cannot be read."""
    named = options(kind)
    try:
        call = re.search(r"\(\*\*(\{.*\})\)\)$", command)
        if call:
            values = dict(ast.literal_eval(call[1]))
            words = [word for name, option in named for word in option.words(values.get(name))]
        else:
            words = shlex.split(command)[2:]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        # edited, with values that are no literals, or nested without end
        return dict.fromkeys((name for name, _ in named), UNKNOWN)
    texts = dict(zip(words[::2], words[1::2], strict=False))
    return {name: texts[option.flag] for name, option in named if option.flag in texts}
