"""The two source roots of a revision in a folder of their own, and a worker that imports them."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = "memsolve", "kernels"


class TreeError(ValueError):
    """What was named is no tree of the packages, or Python imports others."""


def git(*arguments: str) -> str:
    """What git says of this repository.

    Raises:
        OSError: there is no git.
        subprocess.CalledProcessError: or it refuses.
    """
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(revision: str) -> str:
    """The hash of a revision.

    Raises:
        TreeError: it is none.
    """
    try:
        return git("rev-parse", "--verify", f"{revision}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        raise TreeError(f"{revision!r} is no revision of this repository") from None


def place(revision: str, folder: Path) -> Path:
    """Put the packages of a git revision, or of a directory, into `folder`.

    Raises:
        TreeError: it is neither, or lacks a package.
    """
    folder.mkdir(parents=True)
    if Path(revision).is_dir():
        _copy(Path(revision), folder)
    else:
        _extract(commit(revision), folder)
    for package in PACKAGES:
        if not (folder / package).is_dir():
            raise TreeError(f"{revision!r} has no {package}/: nothing of it can be measured")
    return folder


def _copy(source: Path, folder: Path) -> None:
    for package in filter(Path.is_dir, (source / name for name in PACKAGES)):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, folder / package.name, ignore=skip)


def _extract(commit: str, folder: Path) -> None:
    command = ["git", "-C", str(ROOT), "archive", commit]
    done = subprocess.run(command, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        wanted = [m for m in archive.getmembers() if m.name.split("/")[0] in PACKAGES]
        archive.extractall(folder, wanted, filter="data")


class WorkerError(RuntimeError):
    """What the packages of a tree raised, or that their process died."""

    def __init__(self, tree: Path, what: str) -> None:
        super().__init__(what)
        self.tree = tree


class Worker:
    """A process that imports the packages of one tree and the benchmarks of this one.

    On a CPU it computes in one thread: what other programs do then matters least.
    """

    def __init__(self, tree: Path) -> None:
        paths = [tree, tree / "kernels", ROOT]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(path.resolve()) for path in paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        self._tree = tree
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.gate.worker"],
            env=environment,
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The worker's answer.

        Raises:
            WorkerError: the packages failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then it has no answer either
            print(json.dumps([verb, arguments]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._tree, f"the process died, asked for {verb}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(self._tree, answer["error"])
        return answer["answer"]

    def check(self) -> None:
        """Make sure that it measures its tree.

        Raises:
            TreeError: it would import other packages.
        """
        for package, file in self.ask("where").items():
            if file is None or not Path(file).is_relative_to(self._tree.resolve()):
                raise TreeError(f"{package} is imported from {file}, and not from {self._tree}")

    def close(self) -> None:
        """End it, without waiting for it to tidy up."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def workers(*trees: Path) -> Iterator[list[Worker]]:
    """A worker for each tree."""
    running = [Worker(tree) for tree in trees]
    try:
        for worker in running:
            worker.check()
        yield running
    finally:
        for worker in running:
            worker.close()
