"""This repository: its root, git, and its packages in a folder of their own."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = "memsolve", "kernels"


class TreeError(ValueError):
    """A revision or directory without the packages, or a process that imports others."""


def git(*arguments: str) -> str:
    """Standard output of git in this repository.

    Raises:
        OSError: there is no git.
        subprocess.CalledProcessError: git fails.
    """
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(revision: str) -> str:
    """The hash of a revision.

    Raises:
        TreeError: there is no such revision.
    """
    try:
        return git("rev-parse", "--verify", f"{revision}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        raise TreeError(f"{revision!r} is no revision of this repository") from None


def extract(revision: str, folder: Path) -> Path:
    """Put the packages of a git revision, or of a directory, into `folder`.

    Raises:
        TreeError: it is neither, or lacks a package.
    """
    folder.mkdir(parents=True)
    if Path(revision).is_dir():
        _copy(Path(revision), folder)
    else:
        _unpack(commit(revision), folder)
    for package in PACKAGES:
        if not (folder / package).is_dir():
            raise TreeError(f"{revision!r} has no {package}/: nothing of it can be measured")
    return folder


def _copy(source: Path, folder: Path) -> None:
    for package in filter(Path.is_dir, (source / name for name in PACKAGES)):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, folder / package.name, ignore=skip)


def _unpack(commit: str, folder: Path) -> None:
    command = ["git", "-C", str(ROOT), "archive", commit]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [m for m in tar.getmembers() if m.name.split("/")[0] in PACKAGES]
        tar.extractall(folder, members, filter="data")
