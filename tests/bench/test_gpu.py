"""`make gpu` from end to end, with parts that pass, fail, hang and cannot start, without a GPU."""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import __main__ as table
from bench import gpu, record
from bench.cases import CASES
from bench.gpu import PARTS, QUICK, Part
from bench.readme import speed_tables
from bench.registry import Case, Implementation, Run, select
from bench.timing import Timing


def writing(name: str) -> str:
    """A program that leaves a table of one case, as `python -m bench` does after its first."""
    timing = Timing(f"{name} n=1 bfloat16 cuda", "ours", "ok", hot=[1e-3])
    content = {"ceilings": {"bfloat16": {"flops": 1.0, "bytes": 2.0}}, "timings": [asdict(timing)]}
    return f"from pathlib import Path; Path('OUT/{name}.json').write_text({json.dumps(content)!r})"


HANG = "import subprocess; subprocess.run(['sleep', '60'])"  # a child of the part, killed with it
SUBSTITUTES = (
    Part("tests", 60, ("-c", "print('2 failed, 3 passed'); raise SystemExit(1)")),
    Part("sign", 60, ("-c", writing("sign"))),
    Part("softmax", 3, ("-c", f"{writing('softmax')}; {HANG}")),
    Part("tune", 60, ("-c", "")),
    Part("sanitize", 60, ("-c", ""), under=("no-such-sanitizer",)),
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `python -m bench.gpu` as if on a GPU, with other parts."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(record, "machine", lambda: "a-gpu")
    monkeypatch.setattr(gpu, "environment", lambda device: {"device": device})
    monkeypatch.setattr(gpu, "PARTS", SUBSTITUTES)
    monkeypatch.setenv("MEMSOLVE_COMMIT", "0123456789abcdef")

    def main(*arguments: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["bench.gpu", "--out", str(tmp_path), *arguments])
        return gpu.main(), record.load(tmp_path / "a-gpu.json")

    return main


def test_no_part_costs_another(run: Any, tmp_path: Path) -> None:
    start = time.monotonic()
    status, content = run()
    assert time.monotonic() - start < 60  # the hanging part and its child were killed
    assert status == 1
    assert {name: part["status"] for name, part in content["parts"].items()} == {
        "tests": "failed with exit status 1",
        "sign": "passed",
        "softmax": "killed after 3 s",
        "tune": "passed",
        "sanitize": "no-such-sanitizer is not installed",
    }
    assert content["parts"]["tests"]["last_line"] == "2 failed, 3 passed"
    names = [timing.case.split()[0] for timing in content["timings"]]
    assert names == ["softmax", "sign"]  # the killed part had written its first case
    assert content["ceilings"] == {"bfloat16": {"flops": 1.0, "bytes": 2.0}}
    assert content["commit"] == "0123456789abcdef"
    assert (tmp_path / "gpu" / "0123456789" / "tests.log").read_text() == "2 failed, 3 passed\n"


def test_a_part_alone_joins_the_record_of_its_commit(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--part", "sign")[0] == 0
    status, content = run("--part", "tests", "--limit", "30")
    assert status == 1
    assert [timing.case for timing in content["timings"]] == ["sign n=1 bfloat16 cuda"]
    assert content["parts"]["tests"]["limit"] == 30
    monkeypatch.setenv("MEMSOLVE_COMMIT", "f" * 40)
    assert run("--part", "tests")[1]["timings"] == []


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
    for parts, counts in ((PARTS, [27, 19]), (QUICK, [7, 2])):
        counted = {part.name: select(CASES, part.arguments[5], "cuda") for part in parts[1:3]}
        assert [len(counted[name]) for name in ("softmax", "sign")] == counts
    assert len(select(CASES, "", "cuda")) == 27 + 19


def test_a_record_of_parts_can_stand_in_the_readme(run: Any) -> None:
    _, content = run("--part", "sign")
    here = {"threads": 1, "torch": "2", "triton": "3", "python": "3.12"}
    content["machine"] |= here
    assert "| sign n=1 bfloat16 cuda | 1 ms |" in speed_tables([content])


def case_of(run: Run) -> Case:
    """A case with one implementation."""
    (case,) = select(CASES, "softmax_gradient .* d=64 bfloat16", "cuda")
    function = replace(
        case.function,
        make_inputs=lambda *_: None,
        implementations=(Implementation("ours", lambda _: run),),
    )
    return replace(case, function=function)


def test_warming_up_calls_what_compiles_and_survives_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def run() -> torch.Tensor:
        calls.append("ours")
        raise RuntimeError("no such kernel")

    case = case_of(run)
    monkeypatch.setattr(table, "CASES", [case])
    for name in table.COMPILED:
        table.call_once(case.name, name)
    assert calls == ["ours"]
    table.warm_up([])
