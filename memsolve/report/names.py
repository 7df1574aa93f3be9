"""Short names for figures, as distinct as the full ones."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from os.path import commonprefix

MAX_LENGTH = 26
"""Characters of a short name: less than two inches at 8 points."""


def shorten_names(names: Iterable[str], length: int = MAX_LENGTH) -> dict[str, str]:
    """A short name for each name: without its module path, then without its middle if too long.

    Names that become equal keep the part where they differ. Names that still are equal stay as
    they are.

    Args:
        names: to be shortened.
        length: characters that a short name has at most, if it can be distinguished so.
    """
    short = {name: name for name in names}
    shortenings = (
        _without_path,
        partial(_without_middle, length=length),
        partial(_with_difference, length=length),
    )
    for shorten in shortenings:
        shorter = shorten(list(short.values()))
        times = Counter(map(str.lower, shorter))  # names that differ in case alone look equal
        pairs = zip(short.items(), shorter, strict=True)
        short = {name: new if times[new.lower()] == 1 else old for (name, old), new in pairs}
    return short


def _without_path(names: list[str]) -> list[str]:
    """`AdamW:lr=0.01` from `torch.optim.AdamW:lr=0.01`."""
    return [re.sub(r"^(?:[^\W\d]\w*\.)+(?=[^\W\d])", "", name) for name in names]


def _without_middle(names: list[str], length: int) -> list[str]:
    return [_truncate(name, len(name), length) for name in names]


def _with_difference(names: list[str], length: int) -> list[str]:
    """Keep the part in which names that are truncated to the same text first differ."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_truncate(name, len(name), length), []).append(name)
    common = {text: len(commonprefix(group)) for text, group in groups.items()}  # noqa: RUF071
    ends = [common[_truncate(name, len(name), length)] + length // 4 for name in names]
    return [_truncate(name, end, length) for name, end in zip(names, ends, strict=True)]


def _truncate(name: str, end: int, length: int) -> str:
    """The beginning of a long name and the part that ends at an index, half of the length each."""
    if len(name) <= length:
        return name
    half = length // 2
    start = max(end - half, half - 1)
    return f"{name[: half - 1]}…{name[start : start + half]}"
