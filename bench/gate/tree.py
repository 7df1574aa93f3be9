"""The two source roots of a revision in a folder of their own, and a worker that imports them."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = "memsolve", "kernels"


def place(revision: str, folder: Path) -> Path:
    """Put the packages of a git revision, or of a directory, into `folder`.

    Raises:
        ValueError: it is neither.
    """
    folder.mkdir(parents=True)
    source = Path(revision)
    if source.is_dir():
        for package in PACKAGES:
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / package, folder / package, ignore=skip)
        return folder
    command = ["git", "-C", str(ROOT), "archive", revision]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise ValueError(f"{revision!r} is no revision of this repository, and no directory")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        wanted = [m for m in archive.getmembers() if m.name.split("/")[0] in PACKAGES]
        archive.extractall(folder, wanted, filter="data")
    return folder


class WorkerError(RuntimeError):
    """What the packages of a tree raised, or that their process died."""


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
        print(json.dumps([verb, arguments]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the process died, asked for {verb}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End it, without waiting for it to tidy up."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def workers(*trees: Path) -> Iterator[list[Worker]]:
    """A worker for each tree."""
    running = [Worker(tree) for tree in trees]
    try:
        yield running
    finally:
        for worker in running:
            worker.close()
