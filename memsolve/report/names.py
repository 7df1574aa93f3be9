"""Short names for figures, as distinct as the full ones."""

import re
from collections import Counter
from collections.abc import Iterable
from os.path import commonprefix

MAX_LENGTH = 26
"""Characters of a short name: less than two inches at 8 points."""

HALF = MAX_LENGTH // 2


def shorten_names(names: Iterable[str]) -> dict[str, str]:
    """A short name for each name: without its module path, then without its middle if too long.

    Names that become equal keep the part where they differ. Names that still are equal stay as
    they are.
    """
    short = {name: name for name in names}
    for shorten in (_without_path, _without_middle, _with_difference):
        shorter = shorten(list(short.values()))
        times = Counter(map(str.lower, shorter))  # names that differ in case alone look equal
        pairs = zip(short.items(), shorter, strict=True)
        short = {name: new if times[new.lower()] == 1 else old for (name, old), new in pairs}
    return short


def _without_path(names: list[str]) -> list[str]:
    """`AdamW:lr=0.01` from `torch.optim.AdamW:lr=0.01`."""
    return [re.sub(r"^(?:[^\W\d]\w*\.)+(?=[^\W\d])", "", name) for name in names]


def _without_middle(names: list[str]) -> list[str]:
    return [_truncate(name, len(name)) for name in names]


def _with_difference(names: list[str]) -> list[str]:
    """Keep the part in which names that are truncated to the same text first differ."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_truncate(name, len(name)), []).append(name)
    common = {text: len(commonprefix(group)) for text, group in groups.items()}  # noqa: RUF071
    return [_truncate(name, common[_truncate(name, len(name))] + HALF // 2) for name in names]


def _truncate(name: str, end: int) -> str:
    """The beginning of a long name and the part that ends at an index, half a line each."""
    if len(name) <= MAX_LENGTH:
        return name
    start = max(end - HALF, HALF - 1)
    return f"{name[: HALF - 1]}…{name[start : start + HALF]}"
