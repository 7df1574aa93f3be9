"""Followed over commits by asv, which takes lower for better.

The suite is that of the working tree and the package is that of the commit, so that what a commit
lacks is skipped: asv takes NotImplementedError in `setup` for a skip. `version` is set by hand, so
that history survives a change of the suite; raise it where a number changes its meaning.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

if "bench" not in sys.modules:  # asv imports this folder by itself, as `tracked`
    sys.modules["bench"] = ModuleType("bench")
    sys.modules["bench"].__path__ = [str(Path(__file__).parents[1])]


def tracker(name: str, unit: str) -> Any:
    """A benchmark: one of the numbers that `setup_cache` found for a parameter, NaN if not told."""

    def track(suite: object, found: dict[str, dict[str, Any]], parameter: str) -> Any:
        return found[parameter].get(name, float("nan"))

    track.unit, track.version = unit, "1"  # type: ignore[attr-defined]
    return track
