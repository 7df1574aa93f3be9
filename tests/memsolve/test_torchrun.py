"""Studies under torchrun: one memory over several ranks computes what one process computes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from memsolve import InputError, startup
from memsolve.__main__ import main
from memsolve.engine.results.load import load_summary
from memsolve.ranks.memory import uninterrupted
from memsolve.ranks.operations import check_device
from memsolve.study import find
from tests.memsolve import shared_memory as cases
from tests.ranks import run_ranks

TIMEOUT = 100
"""Seconds for a command."""


@pytest.mark.parametrize("size", [2, 4])
def test_operations_are_those_of_one_process_and_repeat_to_the_bit(size: int) -> None:
    expected = cases.operations_of(cases.memory())
    first, second = cases.on_ranks(cases.shared_operations, size)
    assert first.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(first[name], value, rtol=1e-11, atol=1e-13, err_msg=name)
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_an_optimizer_that_needs_a_graph_takes_the_steps_of_one_process() -> None:
    weight = cases.on_ranks(cases.trained_shared, 2)
    expected = cases.trained(cases.memory())
    np.testing.assert_allclose(weight, expected, rtol=1e-9)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A folder with the studies of one process, and what they count."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, cases.studies_in(str(folder))


@pytest.mark.parametrize("size", [2, 4])
def test_studies_count_what_one_process_counts(
    size: int, alone: tuple[Path, dict[str, list[str]]], tmp_path: Path
) -> None:
    folder, expected = alone
    points, resumed, limited = cases.on_ranks(
        cases.studies_and_refusals, size, str(tmp_path), str(folder)
    )
    assert points == expected
    assert f"ranks is 1 there and {size} now; start as many ranks as there, or choose" in resumed
    assert limited.startswith("a time limit runs optimizers in other processes")
    for name in cases.STUDIES:
        assert load_summary(find(name), tmp_path / name).environment["ranks"] == size
        assert "ranks" not in load_summary(find(name), folder / name).environment


def test_arguments_are_refused_as_in_one_process_and_the_ranks_go_on() -> None:
    words = [
        "NonFiniteError: weight holds NaN or infinity",
        "ShapeError: weight has shape (11, 12); expected (12, 12)",
        "DtypeError: items is torch.float32; expected torch.int64",
        "RangeError: batch.items runs from 1 to 1001; expected [0, 1001)",
        "RangeError: alpha is 0.5; expected a finite number above 1",
        "DeviceError: device is 'cuda:1'; expected cuda, of which each rank takes its own, or cpu",
        "RuntimeError: it failed on purpose",
    ]
    assert cases.on_ranks(cases.errors_of_first_rank, 3) == words


def test_a_rank_that_fails_ends_the_study_with_its_words() -> None:
    failed, out_of_memory, version = run_ranks(cases.errors_of_another_rank, 3)[0]
    assert failed.startswith("rank 2 failed: it failed on purpose; what is measured is kept")
    assert out_of_memory.startswith("rank 2 failed: out of memory, 2.9 KiB were requested; ")
    assert version.startswith("rank 2 failed: memsolve is '0.0.1' there and ")


def test_ranks_drop_a_memory_when_rank_0_does() -> None:
    assert run_ranks(cases.memories_held, 2)[1] == [1, 1] * 3


def test_a_gpu_that_is_not_the_ranks_own_is_refused() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(InputError, match=f"there are {count} GPUs for at least {count + 1} ranks"):
        check_device(torch.device("cuda"), count)


def test_an_interrupt_waits_for_the_end_of_an_exchange() -> None:
    finished = []

    def exchange() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        exchange()
    assert finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({}, 1),
        ({"WORLD_SIZE": "4"}, 1),  # of another launcher
        ({"WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}, 1),
        ({"WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "none"}, 4),
    ],
)
def test_ranks_are_those_of_torchrun(
    variables: dict[str, str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert startup.number_of_ranks() == number


@pytest.mark.parametrize(("status", "words"), [(130, "memsolve: interrupted; what is"), (2, "")])
def test_rank_0_says_that_it_was_interrupted_and_ends_at_once(
    status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(startup, "number_of_ranks", lambda: 2)
    monkeypatch.setattr("memsolve.ranks.start.run_on_first_rank", lambda _: status)
    monkeypatch.setattr(sys, "argv", ["memsolve", "capacity"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert end.value.code == status
    assert capsys.readouterr().err.startswith(words)


@contextmanager
def torchrun(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command on two ranks, which has ended after the context, whatever happens in it."""
    python = [sys.executable, "-m"]
    launch = [*python, "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    with subprocess.Popen(
        [*launch, *python, "memsolve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)  # which it passes on to the ranks
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def test_the_command_counts_what_one_process_counts(
    alone: tuple[Path, dict[str, list[str]]], tmp_path: Path
) -> None:
    words = ["--optimizers", "sgd,muon", "--dims", "8,16", "--seeds", "1", "--num-items", "1001"]
    with torchrun("capacity", *words, "--out", str(tmp_path / "ranks")) as process:
        output, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert output.count("capacity: recovered items") == 1
    assert cases.counts(tmp_path / "ranks") == alone[1]["capacity"]


def test_a_killed_rank_ends_the_command_with_a_line_of_words(tmp_path: Path) -> None:
    words = ["--optimizers", "sgd", "--dims", "16", "--seeds", "5000", "--num-items", "101"]
    with torchrun("capacity", *words, "--out", str(tmp_path)) as process:
        wait_for(tmp_path / "cells.jsonl")
        ranks = ranks_of(process.pid)
        os.kill(ranks[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert errors.count("memsolve: error: ") == 1
    assert "has ended" in errors
    assert not any(map(is_running, ranks))


def wait_for(file: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not file.exists() or file.stat().st_size < 1000:
        assert time.monotonic() < end, f"{file} has not been written"
        time.sleep(0.05)


def ranks_of(torchrun: int) -> list[int]:
    """The processes that a process has started, in order."""
    return [*map(int, Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split())]


def is_running(process: int) -> bool:
    return Path(f"/proc/{process}").exists()
