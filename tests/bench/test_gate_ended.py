"""A gate that is ended before its time leaves no process, and no tree that the next one keeps."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.lifetime import PREFIX, cleaning_up_after_signals, scratch
from bench.repository import ROOT

GATE = f"""
import os
import sys
from bench.gate import __main__ as gate
from bench.gate.worker import workers

def speed(base, head, cases):
    with workers(base) as (worker,):
        print(worker._process.pid, flush=True)
        worker.ask(os.system, "sleep 600")  # busy, with a process of its own

gate.speed = speed
sys.argv = ["gate", {str(ROOT)!r}, {str(ROOT)!r}]
sys.exit(gate.main())
"""
PATIENCE = 60.0  # seconds


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does, before patience ends."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def processes(group: int) -> int:
    """How many there are in a process group, but for the dead that nobody has waited for."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return sum(int(pgid) == group and not state.startswith("Z") for pgid, state in rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_gate_that_is_killed(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = subprocess.Popen(
        [sys.executable, "-c", GATE],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert gate.stdout is not None
    worker = int(gate.stdout.readline())
    assert comes_true(lambda: processes(worker) >= 2)  # itself, and what it runs
    assert list(tmp_path.glob(f"{PREFIX}*"))
    gate.send_signal(number)
    assert gate.wait(PATIENCE) == (-number if number == signal.SIGKILL else 128 + number)
    assert comes_true(lambda: processes(worker) == 0)
    gate.stdout.close()
    if number == signal.SIGKILL:
        assert list(tmp_path.glob(f"{PREFIX}*"))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with scratch() as mine:
            assert list(tmp_path.glob(f"{PREFIX}*")) == [mine]
            with scratch() as other:  # of a gate that runs meanwhile
                assert set(tmp_path.glob(f"{PREFIX}*")) == {mine, other}
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_what_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "precious").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (tmp_path / f"{PREFIX}file").write_text("")
    with scratch():
        pass
    assert {path.name for path in tmp_path.iterdir()} == {
        "precious",
        f"{PREFIX}link",
        f"{PREFIX}file",
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_by_an_exception_and_once(number: signal.Signals) -> None:
    def impatient() -> None:
        with cleaning_up_after_signals():
            try:
                os.kill(os.getpid(), number)
                select.select([], [], [], PATIENCE)
            finally:
                os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)  # the tests' own may be to ignore it
    try:
        with pytest.raises(SystemExit) as ended:
            impatient()
        assert ended.value.code == 128 + number
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cleaning_up_after_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
