"""Recorded studies, with which new ones are compared."""

from pathlib import Path

PACKAGE = Path(__file__).parents[2]


def recorded(name: str) -> Path:
    """The folder of a recorded study: in an installed wheel, or in a clone."""
    installed = PACKAGE / "records" / name
    return installed if installed.is_dir() else PACKAGE.parent / "bench" / "results" / name
