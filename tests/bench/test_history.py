"""asv's suite, history and site, and the metrics that it follows."""

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import memsolve_kernels
import pytest
import torch

from bench import metrics
from bench.metrics import OPTIMIZERS, Metrics, compiled_metrics, storage_metrics
from bench.repository import ROOT, TreeError, commit, extract
from bench.tracked import Capacity, Compiled, Speed

OLD = ""
with contextlib.suppress(TreeError):
    OLD = commit("0487dea")  # has softmax_gradient, and no matrix_sign

needs_history = pytest.mark.skipif(not OLD, reason="the commit is not here: a shallow clone?")
GRADIENT = next(name for name in Speed.params if name.startswith("softmax_gradient"))


def test_the_suite_survives_a_commit_without_packages_and_asks_nothing_of_a_gpu() -> None:
    """CUDA does not survive a fork, and asv imports the suite once for all its processes."""
    script = """
import sys, torch
for name in ("is_available", "device_count", "current_device", "_lazy_init"):
    setattr(torch.cuda, name, lambda *arguments: sys.exit("the suite asks for a GPU"))
sys.modules["memsolve"] = sys.modules["memsolve_kernels"] = None
sys.path.insert(0, "bench")
from tracked import Capacity, Compiled, Speed
torch.cuda.is_available = lambda: False
suites = (Capacity(), ["muon"]), (Compiled(), ["any"]), (Speed(), Speed.params)
for suite, params in suites:
    cache = [suite.setup_cache()] if hasattr(suite, "setup_cache") else []
    for param in params:
        try:
            suite.setup(*cache, param)
        except NotImplementedError as reason:
            print("skipped:", reason)
        else:
            sys.exit(f"{suite} is not skipped")
"""
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("skipped:") == 2 + len(Speed.params)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """asv's results and site of an old commit, in a folder."""
    folder = tmp_path_factory.mktemp("site")
    settings = json.loads((ROOT / "asv.conf.json").read_text())
    settings |= {"repo": str(ROOT), "benchmark_dir": str(ROOT / settings["benchmark_dir"])}
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    tree = extract(OLD, folder / "tree")
    variables = {"HOME": str(folder), "ASV_PYTHONPATH": f"{tree}:{tree}/kernels"}

    def asv(*arguments: str) -> None:  # as `make track` and `make dashboard`
        command = [sys.executable, "-m", "asv", *arguments]
        subprocess.run(command, cwd=folder, env=os.environ | variables, check=True)

    asv("machine", "--yes", "--machine", "m")
    pattern = r"Speed.*(softmax_gradient|matrix_sign) .*cpu"
    same = "--python=same", "--set-commit-hash", OLD, "--machine", "m"
    asv("run", *same, "--bench", pattern)
    asv("publish", "--no-pull")
    return folder


@needs_history
def test_an_old_commit_is_measured_in_what_it_has(site: Path) -> None:
    (path,) = site.glob(f".asv/results/*/{OLD[:8]}-*.json")
    (entry,) = json.loads(path.read_text())["results"].values()
    measured = dict(zip(entry[1][0], entry[0], strict=True))
    seconds = {name: value for name, value in measured.items() if isinstance(value, float)}
    assert {name for name, value in seconds.items() if value > 0} == {f"'{GRADIENT}'"}


@needs_history
def test_the_site_shows_the_recorded_commits(site: Path) -> None:
    html = site / ".asv" / "html"
    index = json.loads((html / "index.json").read_text())
    assert OLD in index["revision_to_hash"].values()
    graph = next(html.glob("graphs/branch-*/**/Speed.track_seconds.json"))
    assert len(json.loads(graph.read_text())) == 1


@pytest.fixture(scope="module")
def stored() -> Metrics:
    return storage_metrics((8, 16), 1)


def test_metrics_do_not_depend_on_threads_or_on_the_run(stored: Metrics) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - threads % 2)
        assert repr(storage_metrics((8, 16), 1)) == repr(stored)  # NaN included
        assert torch.get_num_threads() == 3 - threads % 2
    finally:
        torch.set_num_threads(threads)
    assert tuple(stored) == OPTIMIZERS


def test_every_rising_metric_has_a_falling_counterpart(stored: Metrics) -> None:
    pairs = {"recovered": "weights_per_item", "saturation_batch_size": "weights_per_drawn_item"}
    for rising, falling in pairs.items():
        rows = sorted((row[rising], -row[falling]) for row in stored.values() if row[rising] > 0)
        assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    assert stored["muon"]["capacity_shortfall"] > 0


def test_every_metric_is_tracked_with_unit_and_version(stored: Metrics) -> None:
    trackers = {name: each for name, each in vars(Capacity).items() if name.startswith("track_")}
    assert {name.removeprefix("track_") for name in trackers} == set(stored["muon"])
    for track in trackers.values():
        assert track.unit
        assert track.version == "1"
        assert isinstance(track(Capacity(), stored, "muon"), float)


def test_a_wrong_result_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = memsolve_kernels.softmax_gradient

    def twice(*arguments: Any, **options: Any) -> Any:
        return 0, 2 * exact(*arguments, **options)[1]

    monkeypatch.setattr(memsolve_kernels, "softmax_gradient", twice)
    with pytest.raises(RuntimeError, match="relative error"):
        Speed().setup(GRADIENT)


def test_seconds_are_positive() -> None:
    speed = Speed()
    speed.setup(GRADIENT)
    assert 0 < speed.track_seconds(GRADIENT) < math.inf
    assert vars(Speed)["track_seconds"].unit == "seconds"


def test_every_variant_has_its_own_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("memsolve_kernels.compiled")

    def everywhere(read: Any, architectures: Any) -> Iterator[tuple[int, Any, Any]]:
        for arch in architectures:
            for variant in compiled.variants(arch):
                loop = SimpleNamespace(code=7, cycles={"issue": 5.0, "shared": 3.0}, serial=9.0)
                size = len(variant.name)
                yield (
                    arch,
                    variant,
                    SimpleNamespace(registers=arch, stack=size, shared=0, loop=loop),
                )

    monkeypatch.setattr(compiled, "everywhere", everywhere)
    results = compiled_metrics()
    assert tuple(results) == Compiled.params == tuple(metrics.local_labels())
    for label, values in results.items():
        variant, _, arch = label.rpartition(" sm_")
        assert (values["registers"], values["stack"]) == (int(arch), len(variant))
        assert values["shared"] == 0  # bytes, not the cycles of that name
        assert (values["code"], values["issue"], values["serial"]) == (7, 5.0, 9.0)
    assert tuple(compiled_metrics([90])) == tuple(name for name in results if "sm_90" in name)
