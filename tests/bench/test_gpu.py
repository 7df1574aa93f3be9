"""`make gpu` from end to end, with parts that pass, fail, hang and cannot start, without a GPU."""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memsolve_kernels.tuning import fastest

from bench import gpu, record, warm
from bench.cases import CASES
from bench.gpu import PARTS, QUICK, Part
from bench.readme import tables
from bench.registry import Case, Run, Way, matching
from bench.rows import Row


def writing(table: str) -> str:
    """A program that leaves a table of one case, as `python -m bench` does after its first."""
    row = Row(f"{table} n=1 bfloat16 cuda", "ours", "ok", hot=[1e-3])
    content = {"ceilings": {"bfloat16": {"flops": 1.0, "bytes": 2.0}}, "rows": [asdict(row)]}
    return f"from pathlib import Path; Path('OUT/{table}.json').write_text({json.dumps(content)!r})"


HANG = "import subprocess; subprocess.run(['sleep', '60'])"  # a child of the part, killed with it
STANDING_IN = (
    Part("tests", 60, ("-c", "print('2 failed, 3 passed'); raise SystemExit(1)")),
    Part("sign", 60, ("-c", writing("sign"))),
    Part("softmax", 5, ("-c", f"{writing('softmax')}; {HANG}")),
    Part("tune", 60, ("-c", "")),
    Part("sanitize", 60, ("-c", ""), under=("no-such-sanitizer",)),
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `python -m bench.gpu` as on a GPU, with other parts."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu, "machine", lambda: "a-gpu")
    monkeypatch.setattr(gpu, "environment", lambda device: {"device": device})
    monkeypatch.setattr(gpu, "PARTS", STANDING_IN)
    monkeypatch.setenv("MEMSOLVE_COMMIT", "0123456789abcdef")

    def main(*arguments: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["bench.gpu", "--out", str(tmp_path), *arguments])
        return gpu.main(), record.load(tmp_path / "a-gpu.json")

    return main


def test_no_part_costs_another(run: Any, tmp_path: Path) -> None:
    start = time.monotonic()
    status, found = run()
    assert time.monotonic() - start < 60  # what hung, and its child, was killed
    assert status == 1
    assert {name: part["status"] for name, part in found["parts"].items()} == {
        "tests": "failed with exit status 1",
        "sign": "passed",
        "softmax": "cut off after 5 s",
        "tune": "passed",
        "sanitize": "no-such-sanitizer is not installed",
    }
    assert found["parts"]["tests"]["said"] == "2 failed, 3 passed"
    names = [row.case.split()[0] for row in found["rows"]]
    assert names == ["softmax", "sign"]  # what was cut off had written its first case
    assert found["ceilings"] == {"bfloat16": {"flops": 1.0, "bytes": 2.0}}
    assert found["commit"] == "0123456789abcdef"
    assert (tmp_path / "gpu" / "0123456789" / "tests.log").read_text() == "2 failed, 3 passed\n"


def test_a_part_alone_joins_the_record_of_its_commit(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--part", "sign")[0] == 0
    status, found = run("--part", "tests", "--limit", "30")
    assert status == 1
    assert [row.case for row in found["rows"]] == ["sign n=1 bfloat16 cuda"]
    assert found["parts"]["tests"]["limit"] == 30
    monkeypatch.setenv("MEMSOLVE_COMMIT", "f" * 40)
    assert run("--part", "tests")[1]["rows"] == []


def test_without_a_gpu_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--out", str(tmp_path)])
    assert gpu.main() == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_limits_fit_a_call_and_the_parts_find_their_cases() -> None:
    assert sum(part.limit for part in PARTS) <= 8 * 60
    assert sum(part.limit for part in QUICK) <= 2 * 60
    assert {part.name for part in QUICK} <= {part.name for part in PARTS}
    for parts, counts in ((PARTS, [26, 19]), (QUICK, [6, 2])):
        found = {part.name: matching(CASES, part.arguments[5], "cuda") for part in parts[1:3]}
        assert [len(found[name]) for name in ("softmax", "sign")] == counts
    assert len(matching(CASES, "", "cuda")) == 26 + 19  # the whole table


def test_a_record_of_parts_can_stand_in_the_readme(run: Any) -> None:
    _, found = run("--part", "sign")
    here = {"threads": 1, "torch": "2", "triton": "3", "python": "3.12"}
    found["machine"] |= here
    assert "| sign n=1 bfloat16 cuda | 1 ms |" in tables([found])


def one_way(run: Run) -> Case:
    """A case of which ours is a run."""
    (case,) = matching(CASES, "softmax_gradient .* d=64 bfloat16", "cuda")
    function = replace(case.function, inputs=lambda *_: None, ways=(Way("ours", lambda _: run),))
    return replace(case, function=function)


def test_tuning_is_recorded_as_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    tune = pytest.importorskip("bench.tune", reason="needs triton", exc_type=ImportError)
    monkeypatch.setattr("memsolve_kernels.tuning._selected", {})
    slow, quick = 5.0, 2.0

    def run() -> torch.Tensor:
        taken = fastest("a kind", [slow, quick], lambda way: None, lambda call: next(times))
        return torch.tensor(taken)

    times = iter([slow, quick])
    monkeypatch.setattr(tune, "do_bench", lambda run: run())
    found = tune.tuned(one_way(run))
    assert (found["before"], found["after"]) == (slow, quick)
    assert found["chosen"] == ["a kind: 2.0"]


def test_warming_calls_what_compiles_and_survives_what_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []

    def run() -> torch.Tensor:
        called.append("ours")
        raise RuntimeError("no such kernel")

    case = one_way(run)
    monkeypatch.setattr(warm, "CASES", [case])
    for way in warm.COMPILED:
        warm.called(case.name, way)
    assert called == ["ours"]
    warm.warm([])
