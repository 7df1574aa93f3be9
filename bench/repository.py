"""This repository: its root, git, and its packages in a temporary folder of their own."""

import fcntl
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = "memsolve", "kernels"
PREFIX = "memsolve-bench-"  # of temporary folders


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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder; first removes those that killed processes have left."""
    for abandoned in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), _lock(abandoned):
            shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, _lock(Path(folder)):
        yield Path(folder)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a folder of this user until the process ends.

    Raises:
        OSError: another process has it, or it is no folder, or of another user.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
