"""Studies that this project has recorded, for others to be shown with."""

from pathlib import Path

PACKAGE = Path(__file__).parents[2]


def recorded(name: str) -> Path:
    """The folder of a record: what a wheel has of it, or in a clone the record itself."""
    installed = PACKAGE / "records" / name
    return installed if installed.is_dir() else PACKAGE.parent / "bench" / "results" / name
