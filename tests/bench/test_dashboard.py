"""asv's suite and site, and the page of ratios, seen by a browser."""

import contextlib
import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import dashboard, history, offline, record
from bench.measure import Ceilings, Ratio
from bench.record import load, save
from bench.repository import ROOT, TreeError, commit
from bench.rows import Row
from tests import browser
from tests.browser import needs_browser

COMMITS = 10
LAST: list[str] = []
with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no git, or no clone
    LAST = dashboard.last(COMMITS)

OLD = ""
with contextlib.suppress(TreeError):
    OLD = commit("0487dea")  # has softmax_gradient, and no matrix_sign

needs_history = pytest.mark.skipif(
    len(LAST) < COMMITS,
    reason=f"fewer than {COMMITS} commits are here: a shallow clone, or no clone",
)


@contextlib.contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Let asv keep its results, its pages and its list of machines in a folder."""
    settings = json.loads((ROOT / "asv.conf.json").read_text())
    settings |= {"repo": str(ROOT), "benchmark_dir": str(ROOT / settings["benchmark_dir"])}
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setattr(history, "FOLDER", folder)
        yield


def test_asv_finds_no_fault_in_the_suite() -> None:
    assert history.asv("check", "--python=same") == 0


def test_the_suite_survives_a_commit_without_packages_and_asks_nothing_of_a_gpu() -> None:
    """CUDA does not survive a fork, and asv imports the suite once for all its processes."""
    script = """
import sys, torch
for name in ("is_available", "device_count", "current_device", "_lazy_init"):
    setattr(torch.cuda, name, lambda *arguments: sys.exit("the suite asks for a GPU"))
sys.modules["memsolve"] = sys.modules["memsolve_kernels"] = None
sys.path.insert(0, "bench")
from tracked import capacity, compiled, speed
torch.cuda.is_available = lambda: False
suites = (capacity.Capacity(), "muon"), (compiled.Compiled(), "any"), (speed.Speed(), None)
for suite, param in suites:
    params = speed.Speed.params if param is None else [param]
    found = [suite.setup_cache()] if param else []
    for name in params:
        try:
            suite.setup(*found, name)
        except NotImplementedError as reason:
            print("skipped:", reason)
        else:
            sys.exit(f"{suite} is not skipped")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped:") > 2


@pytest.mark.skipif(not OLD, reason="the commit is not here: a shallow clone, or no clone")
def test_an_old_commit_is_measured_in_what_it_has(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with results_in(tmp_path):
        assert history.record(OLD, r"speed.*(softmax_gradient|matrix_sign) .*cpu") == 1
        assert "skipped: NotImplementedError" in capfd.readouterr().out
        ((seconds,),) = history.recorded(OLD).values()
        assert seconds > 0
        (path,) = tmp_path.glob(f".asv/results/*/{OLD[:8]}-*.json")
    (entry,) = json.loads(path.read_text())["results"].values()
    measured = dict(zip(entry[1][0], entry[0], strict=True))
    assert [case for case in measured if measured[case] == seconds] == [
        case for case in measured if "softmax_gradient" in case and "cpu" in case
    ]


@pytest.mark.parametrize(
    ("recorded", "missing"),
    [
        (["speed.Speed.track", "capacity.Capacity.track"], []),
        (["capacity.Capacity.track", "compiled.Compiled.track"], ["^speed"]),
        ([], ["^capacity|^speed"]),
    ],
)
def test_what_a_commit_has_not_recorded_is_recorded(
    recorded: list[str], missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(history, "recorded", lambda commit: {name: [] for name in recorded})
    monkeypatch.setattr(history, "record", lambda commit, pattern: asked.append(pattern))
    dashboard.record_missing(["0123456789"])
    assert asked == missing


TORN: dict[str, Callable[[str], str]] = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "no results": lambda text: "{}",
    "results of a wrong type": lambda text: json.dumps({"results": 3}),
    "values of a wrong type": lambda text: json.dumps({"results": {"a": [["x"]]}}),
}


@pytest.mark.parametrize("name", TORN)
def test_a_torn_result_is_told_in_a_line_before_anything_is_recorded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = "0123456789" * 4
    path = tmp_path / ".asv" / "results" / history.machine() / f"{commit[:8]}-env.json"
    path.parent.mkdir(parents=True)
    whole = json.dumps({"results": {"a": [[1.0, None], [["x", "y"]]]}})
    monkeypatch.setattr(history, "FOLDER", tmp_path)
    monkeypatch.setattr(history, "commit", lambda revision: commit)
    monkeypatch.setattr(history, "asv", lambda *arguments, **variables: pytest.fail("asv is run"))
    monkeypatch.setattr(dashboard, "last", lambda count: [commit])
    path.write_text(whole)
    assert history.recorded(commit) == {"a": [1.0]}
    path.write_text(TORN[name](whole))
    for module in (history, dashboard):
        monkeypatch.setattr(sys, "argv", [module.__name__])
        with pytest.raises(SystemExit) as stop:
            module.main()
        assert stop.value.code == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert f"error: {path} is not what asv has written" in told


def test_other_torn_files_of_asv_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "FOLDER", tmp_path)
    (tmp_path / ".asv" / "results" / "machine").mkdir(parents=True)
    (tmp_path / ".asv" / "results" / "benchmarks.json").write_text("{}")
    (tmp_path / ".asv" / "results" / "machine" / "machine.json").write_text('{"arch')
    with pytest.raises(history.ResultError, match=r"machine/machine\.json is not what asv"):
        history.check()


@pytest.mark.parametrize("npm", [True, False])
def test_libraries_of_an_interrupted_installation_are_brought_again(
    npm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    (installed / "node_modules" / "half").mkdir(parents=True)
    (tmp_path / "index.html").write_text('<script src="https://there/jquery-3.3.1.min.js" x="">')
    monkeypatch.setattr(offline, "INSTALLED", installed)

    def run(command: list[str], cwd: Path, **options: Any) -> None:
        if not npm:
            raise FileNotFoundError("npm")
        assert not (cwd / "node_modules").exists()
        (cwd / "node_modules").mkdir()
        (cwd / "node_modules" / "jquery.js").write_text("library")

    monkeypatch.setattr(subprocess, "run", run)
    assert offline.bring(tmp_path) == npm
    local = '<script src="jquery-3.3.1.min.js">'
    assert ((tmp_path / "index.html").read_text() == local) == npm


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """asv's site over the last commits: the newest recorded, its numbers lent to the others."""
    folder = tmp_path_factory.mktemp("site")
    with results_in(folder):
        assert history.record(LAST[-1], r"track_(recovered|weights_per_item)") == 6
        (newest,) = folder.glob(f".asv/results/*/{LAST[-1][:8]}-*.json")
        content = json.loads(newest.read_text())
        for turn, commit in enumerate(LAST[:-1]):
            older = {**content, "commit_hash": commit, "date": content["date"] - 10**7 + turn}
            path = newest.with_name(newest.name.replace(LAST[-1][:8], commit[:8]))
            path.write_text(json.dumps(older))
        yield dashboard.publish()


@pytest.fixture(scope="module")
def seen(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """What a browser makes of a page of the site, as HTML."""

    if 'src="https://' in (site / "index.html").read_text():
        pytest.skip("npm cannot bring the libraries that asv's site loads from the internet")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    profile = tmp_path_factory.mktemp("profile")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def look(page: str) -> str:
            address = f"http://127.0.0.1:{server.server_port}/{page}"
            return browser.seen(address, profile)

        yield look
        server.shutdown()


@needs_history
@needs_browser
def test_the_site_shows_the_history_of_each_benchmark(seen: Callable[[str], str]) -> None:
    index = seen("index.html")
    assert "track_recovered" in index
    assert "track_weights_per_item" in index
    graph = seen("index.html#capacity.Capacity.track_recovered")
    assert '<canvas class="flot-base"' in graph or "flot-base" in graph
    for optimizer in ("muon", "newton", "sgd"):
        assert optimizer in graph


@needs_history
def test_the_site_holds_the_last_commits(site: Path) -> None:
    index = json.loads((site / "index.json").read_text())
    assert set(LAST) <= set(index["revision_to_hash"].values())
    graph = next(site.glob("graphs/branch-*/**/capacity.Capacity.track_recovered.json"))
    points = json.loads(graph.read_text())
    assert len(points) == COMMITS
    assert all(None not in values for _, values in points)


@needs_history
@needs_browser
def test_the_page_of_ratios_is_in_the_site(seen: Callable[[str], str]) -> None:
    page = seen("ratios.html")
    assert "<h1>Latest ratios</h1>" in page
    assert page.count('<section class="machine">') == len(list(record.machines()))


ROWS = [
    Row("f n=1", "ours", "ok", hot=[1e-3] * 3, of_gemm=0.5, of_copy=0.1, error=1e-7),
    Row(
        "f n=1",
        "theirs",
        "ok",
        hot=[2e-3] * 3,
        ratio=Ratio(2.0, 1.9, 2.1),
        differs=True,
        of_gemm=0.25,
        of_copy=0.05,
    ),
    Row("f n=1", "<absent>", "skipped", "not installed"),
    Row("g n=1", "ours", "wrong result", "relative error 1.0"),
    Row("g n=1", "theirs", "ok", hot=[1e-3] * 3, of_gemm=0.5, of_copy=0.1),
]


def test_ratios_come_from_the_record_and_a_wrong_result_has_none(tmp_path: Path) -> None:
    save(tmp_path / "machine.json", "cpu", {"float32": Ceilings(1e12, 1e10)}, ROWS)
    page = dashboard.ratios_page(tmp_path)
    assert "2.00" in page
    assert "[1.90 2.10]" in page
    assert "g n=1" not in page
    assert "absent" not in page


def test_kernels_have_a_page_with_what_is_told_of_them() -> None:
    found = {
        "old sm_90": {"registers": 168.0},
        "new <b> sm_90": {"registers": 90.0, "serial": 712.3},
    }
    page = dashboard.kernels_page(found)
    old, new = (line for line in page.splitlines() if line.startswith("<tr>"))
    assert "<td>168</td>" in old
    assert "<td>nan</td>" in old
    assert "<td>712</td>" in new
    assert "&lt;b&gt;" in new


def test_a_record_says_how_it_was_made_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    save(path, "cpu", {"float32": Ceilings(1e12, 1e10)}, ROWS)
    found = load(path)
    assert found["rows"] == ROWS
    assert found["ceilings"] == {"float32": {"flops": 1e12, "bytes": 1e10}}
    assert {"command", "commit", "date", "machine"} <= set(found)
    assert {"device", "threads", "torch", "triton", "python"} <= set(found["machine"])


def test_a_page_without_machines_says_so(tmp_path: Path) -> None:
    assert "No machine has been measured yet" in dashboard.ratios_page(tmp_path)
