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
    lacking = f"{revision!r} lacks one of {PACKAGES}: nothing of it can be measured"
    if Path(revision).is_dir():
        for package in PACKAGES:
            if not (source := Path(revision, package)).is_dir():
                raise TreeError(lacking)
            shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        return folder
    command = ["git", "-C", str(ROOT), "archive", commit(revision), *PACKAGES]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        raise TreeError(lacking)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder
