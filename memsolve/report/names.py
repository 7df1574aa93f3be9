"""Names that fit into a figure: shortened, and still as different as they were."""

import re
from collections import Counter
from collections.abc import Iterable
from os.path import commonprefix

LONGEST = 26
"""Characters of a short name: at 8 points under two inches."""

HALF = LONGEST // 2


def short(names: Iterable[str]) -> dict[str, str]:
    """A short name for each: its path left out, then the middle of what is still too long.

    Names that would then read alike show the place where they part; if not even that tells them
    apart, they stay as they were.
    """
    found = {name: name for name in names}
    for shorten in (_without_path, _without_middle, _from_where_they_part):
        shorter = shorten(list(found.values()))
        times = Counter(map(str.lower, shorter))  # a capital tells too little apart
        pairs = zip(found.items(), shorter, strict=True)
        found = {name: new if times[new.lower()] == 1 else old for (name, old), new in pairs}
    return found


def _without_path(names: list[str]) -> list[str]:
    """`AdamW:lr=0.01` of `torch.optim.AdamW:lr=0.01`."""
    return [re.sub(r"^(?:[^\W\d]\w*\.)+(?=[^\W\d])", "", name) for name in names]


def _without_middle(names: list[str]) -> list[str]:
    return [_cut(name, len(name)) for name in names]


def _from_where_they_part(names: list[str]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_cut(name, len(name)), []).append(name)
    parted = {cut: len(commonprefix(group)) for cut, group in alike.items()}  # noqa: RUF071
    return [_cut(name, parted[_cut(name, len(name))] + HALF // 2) for name in names]


def _cut(name: str, end: int) -> str:
    """A long name's first half line, and the half line that ends at a place of it."""
    if len(name) <= LONGEST:
        return name
    start = max(end - HALF, HALF - 1)
    return f"{name[: HALF - 1]}…{name[start : start + HALF]}"
