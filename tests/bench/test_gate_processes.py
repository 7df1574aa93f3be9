"""The gate's workers on real trees: planted regressions, crashes, and a gate that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import gate, metrics, registry
from bench.cases import QUICK
from bench.gate import __main__ as command
from bench.gate.planted import plant
from bench.gate.worker import PRELOADED, WorkerError, package_files, workers
from bench.repository import ROOT, TreeError, extract
from tests.fork_server import preload

GRADIENT, RETRIEVAL = (
    next(case.name for case in registry.select(QUICK, f"^{function} ", "cpu"))
    for function in ("softmax_gradient", "retrieval")
)


@pytest.fixture(scope="module", autouse=True)
def own_fork_server() -> None:
    """Workers import a tree, so what forks them must not have imported memsolve."""
    preload(PRELOADED)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("trees")
    return lambda name: extract(str(ROOT), folder / name)


@pytest.fixture(scope="module")
def base(trees: Callable[[str], Path]) -> Path:
    return trees("base")


def test_a_worker_imports_its_tree(base: Path) -> None:
    with workers(base) as (worker,):
        files = worker.call(package_files)
        assert {Path(file).relative_to(base.resolve()).parent for file in files.values()} == {
            Path("memsolve"),
            Path("kernels/memsolve_kernels"),
        }
        with pytest.raises(WorkerError, match="ValueError"):
            worker.call(int, "no number")
        with pytest.raises(WorkerError, match="the process died in abort"):
            worker.call(os.abort)


def test_a_worker_that_would_measure_other_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="memsolve is imported from"), workers(tmp_path):
        pass


SLOW_AND_ABORTING = """
def softmax_gradient(*arguments, _once=softmax_gradient, **options):
    for _ in range(2):
        _once(*arguments, **options)
    return _once(*arguments, **options)

def retrieval(*arguments, **options):
    import os
    os.abort()
"""


def test_a_slower_kernel_fails_after_one_that_kills_its_process(
    base: Path, trees: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller slowdowns are tested on simulated samples, and by `bench.gate.planted`."""
    monkeypatch.setattr(gate, "MOST_ROUNDS", gate.ROUNDS)
    head = trees("broken")
    package = head / "kernels" / "memsolve_kernels" / "__init__.py"
    package.write_text(package.read_text() + SLOW_AND_ABORTING)
    aborting, slow = gate.compare_speed(base, head, [RETRIEVAL, GRADIENT])
    assert aborting.outcome == gate.FAILED
    assert "head fails: the process died" in aborting.text
    if "too noisy" in slow.text:
        pytest.skip("this machine is too busy to tell three times from chance")
    assert slow.outcome == gate.FAILED
    assert command.report([slow]) == 1


def test_a_loss_of_capacity_fails(base: Path, trees: Callable[[str], Path]) -> None:
    forgetful = plant("forgetful", trees("forgetful"))
    findings = gate.compare_capacity(base, forgetful, dims=(32,), seeds=1)
    failures = [finding.text for finding in findings if finding.outcome == gate.FAILED]
    assert failures
    assert all("muon" in text for text in failures)


def odds_metrics(architectures: list[int]) -> metrics.Metrics:
    """`compiled_metrics` of one kernel, in a worker."""
    from memsolve_kernels.compiled import binaries, profile, variants

    variant = next(each for each in variants(90) if each.name == "softmax.odds half d<=64")
    return {"odds": metrics.profile_metrics(profile(binaries(variant, architectures)[0]))}


def test_more_cycles_by_count_fail(base: Path, trees: Callable[[str], Path]) -> None:
    pytest.importorskip("triton")
    planted = [plant(name, trees(name)) for name in ("masked", "unpacked")]
    with workers(base, *planted) as running:
        before, *after = (worker.call(odds_metrics, [90]) for worker in running)
    for changed in after:
        assert gate.FAILED in [each.outcome for each in gate.compare_cycles(before, changed)]
    assert [each.outcome for each in gate.compare_cycles(before, before)] == [gate.PASSED]


def test_the_same_kernels_need_no_compilation(base: Path) -> None:
    (finding,) = gate.compare_machine_code(base, base)
    assert finding.outcome == gate.PASSED


GATE = f"""
import os
import sys
from bench import gate
from bench.gate import __main__ as command
from bench.gate import worker
from bench.gate.worker import workers

worker._context.set_forkserver_preload([])

def compare_speed(base, head, cases):
    with workers(base) as (worker,):
        print(worker.call(os.getpid), flush=True)
        worker.call(os.system, "sleep 600")  # busy, with a process of its own

gate.compare_speed = compare_speed
sys.argv = ["gate", {str(ROOT)!r}, {str(ROOT)!r}]
if __name__ == "__main__":
    sys.exit(command.main())
"""
TIMEOUT = 60.0  # seconds


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does within the timeout."""
    end = time.monotonic() + TIMEOUT
    while not (is_true := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return is_true


def processes(group: int) -> int:
    """How many there are in a process group, without the dead that nobody has waited for."""
    listing = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout
    rows = (line.split() for line in listing.splitlines())
    return sum(int(pgid) == group and not state.startswith("Z") for pgid, state in rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_gate_that_is_killed_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", GATE],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert becomes_true(lambda: processes(worker) >= 2)  # itself, and its child
    process.send_signal(number)
    process.wait(TIMEOUT)
    process.stdout.close()
    assert becomes_true(lambda: processes(worker) == 0)
    trees = list(tmp_path.glob("*/base"))
    assert bool(trees) == (number == signal.SIGKILL)  # which nobody can catch
