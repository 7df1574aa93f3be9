"""Names that fit into a figure: shortened, and still as different as they were."""

import re
from collections import Counter
from collections.abc import Iterable

LONGEST = 24
"""Characters of a short name: at 8 points an inch and a half."""


def short(names: Iterable[str]) -> dict[str, str]:
    """A short name for each: its path left out, then the middle of what is still too long.

    Where two would then read alike, they stay as they were.
    """
    found = {name: name for name in names}
    for shorten in (_without_path, _without_middle):
        shorter = {name: shorten(kept) for name, kept in found.items()}
        times = Counter(shorter.values())
        found = {name: new if times[new] == 1 else found[name] for name, new in shorter.items()}
    return found


def _without_path(name: str) -> str:
    """`AdamW:lr=0.01` of `torch.optim.AdamW:lr=0.01`."""
    return re.sub(r"^(?:[^\W\d]\w*\.)+(?=[^\W\d])", "", name)


def _without_middle(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    half = LONGEST // 2
    return f"{name[: half - 1]}…{name[-half:]}"
