"""Records: written from a finished leaderboard, small, and verified by a rerun."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memsolve import InputError
from memsolve.cli import run_command
from memsolve.importing import FOLDER
from memsolve.records import commands
from memsolve.records.record import (
    MAX_BYTES,
    EditedError,
    Record,
    format_record,
    hash_content,
    read_record,
    read_records,
)
from memsolve.records.rerun import recorded_problems, smallest
from memsolve.records.source import differing_files, read_files, write_files
from memsolve.records.submit import Statement, file_name, make_records, write_record
from memsolve.records.tables import track_tables
from memsolve.records.verify import SourceError, verify_record
from memsolve.study.leaderboard.grid import LeaderboardGrid
from tests.memsolve.record_cases import MINE, NAME, TINY, importable, measure, write_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module of `NAME` and, in `board`, its finished leaderboard."""
    folder = tmp_path_factory.mktemp("records")
    write_module(folder)
    return folder


@pytest.fixture(scope="module")
def mine(folder: Path) -> Record:
    with importable(folder):
        (record,) = measure(folder / "board", NAME)
    return record


@pytest.fixture
def here(folder: Path) -> Iterator[None]:
    """The module of `NAME` can be imported."""
    with importable(folder):
        yield


@pytest.fixture
def path(mine: Record, tmp_path: Path) -> Path:
    """The file of the record of `NAME`."""
    path = tmp_path / "mine.json"
    write_record(mine, path)
    return path


def edit(path: Path, *keys: Any, value: Any, rehash: bool = False) -> None:
    """Replace a value in a record's file, and state the new hash if asked for."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    if rehash:
        content["sha256"] = hash_content(content)
    path.write_text(json.dumps(content))


def test_a_record_has_all_that_a_check_needs(mine: Record, path: Path) -> None:
    assert read_record(path) == replace(mine, sha256=read_record(path).sha256)
    assert mine.source.files.keys() == {
        "mine_helpers/__init__.py",
        "mine_helpers/scaling.py",
        "mine_optimizer.py",
    }
    assert mine.source.files["mine_optimizer.py"] == MINE.splitlines()
    assert mine.environment["torch"]
    assert mine.command.startswith("memsolve leaderboard")
    assert mine.label == "reported"
    assert mine.core_seconds > 0
    problems = recorded_problems(mine)
    assert {each.problem.track for each in problems} == set(TINY["tracks"])
    for each in problems:
        assert [trial.seed for trial in each.trials] == [1, 2]
        assert len(each.recovered) == len(each.loss) == 2


def test_a_record_is_small_and_deterministic(
    mine: Record, folder: Path, path: Path, here: None
) -> None:
    assert path.stat().st_size < MAX_BYTES / 4
    (again,) = make_records(folder / "board", Statement("The tests", "It is an example."))
    assert format_record(again) == path.read_text()
    long = {"long.py": ["x = 1"] * MAX_BYTES}
    with pytest.raises(InputError, match=r"the longest file of its source is long\.py"):
        format_record(replace(mine, source=replace(mine.source, files=long)))


def test_a_record_is_reproduced(path: Path, here: None) -> None:
    report = verify_record(read_record(path), every=True)
    assert report.reproduced
    assert report.exact
    assert report.total == len(report.checks) == 3


def test_every_edit_of_the_file_is_detected(path: Path) -> None:
    before = path.read_text()
    for keys, value in (
        (("fits", 0, "points", 0, "recovered", 0, 0), 99),
        (("fits", 0, "points", 0, "lrs", 0), 0.5),
        (("source", "files", "mine_optimizer.py", 0), "# edited"),
        (("claim",), "It is the best."),
        (("environment", "torch"), "1.0"),
    ):
        edit(path, *keys, value=value)
        with pytest.raises(EditedError, match="was edited after it was written"):
            read_record(path)
        path.write_text(before)


def test_edited_numbers_with_a_new_hash_are_not_reproduced(path: Path, here: None) -> None:
    counts = read_record(path).fits[0]["points"][0]["recovered"][0]
    more = [count + 1 for count in counts]
    edit(path, "fits", 0, "points", 0, "recovered", 0, value=more, rehash=True)
    report = verify_record(read_record(path))
    assert not report.reproduced
    (check,) = [check for check in report.checks if not check.agrees]
    assert check.problem.track == "one-step"
    assert (check.recorded, check.measured) == (sum(more) / 2, sum(counts) / 2)
    assert "NOT reproduced: 1 differ" in report.lines()[-1]


def test_means_may_differ_by_the_interval_in_another_environment(path: Path, here: None) -> None:
    edit(path, "environment", "torch", value="2.0", rehash=True)
    counts = read_record(path).fits[0]["points"][0]["recovered"][0]
    more = [count + 1 for count in counts]
    edit(path, "fits", 0, "points", 0, "recovered", 0, value=more, rehash=True)
    report = verify_record(read_record(path))
    assert not report.exact
    assert "torch is" in report.lines()[1]
    assert report.reproduced
    (check,) = [check for check in report.checks if check.problem.track == "one-step"]
    assert check.reach >= check.recorded - check.measured == 1


def test_a_wide_interval_in_a_record_allows_no_larger_difference(path: Path, here: None) -> None:
    edit(path, "environment", "torch", value="2.0", rehash=True)
    edit(path, "fits", 0, "points", 0, "recovered", 0, value=[0, 2000], rehash=True)
    assert not verify_record(read_record(path)).reproduced


def test_a_record_without_problems_is_not_reproduced(path: Path, here: None) -> None:
    edit(path, "fits", value=[], rehash=True)
    with pytest.raises(InputError, match="holds no problem that could be run again"):
        verify_record(read_record(path))


def test_an_edited_source_with_a_new_hash_is_refused(path: Path, here: None) -> None:
    lines = [line.replace("sign()", "sign() * 2") for line in MINE.splitlines()]
    edit(path, "source", "files", "mine_optimizer.py", value=lines, rehash=True)
    with pytest.raises(SourceError, match=r"mine_optimizer\.py \(different code here\)"):
        verify_record(read_record(path))


def test_comments_and_docstrings_are_no_other_source(path: Path, here: None) -> None:
    lines = ["# A comment", *MINE.replace("An optimizer of", "One of").splitlines()]
    edit(path, "source", "files", "mine_optimizer.py", value=lines, rehash=True)
    assert verify_record(read_record(path)).reproduced


def test_the_code_must_be_the_one_that_was_measured(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    module = tmp_path / "copy" / "mine_optimizer.py"
    module.write_text(module.read_text().replace("-=", "+="))
    with (
        importable(tmp_path / "copy"),
        pytest.raises(InputError, match=r"is not the one that .* was measured with"),
    ):
        make_records(folder / "board", Statement())


def test_a_source_that_is_not_here_runs_only_if_it_is_trusted(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a process of its own, which imports the module from the record."""
    monkeypatch.chdir(tmp_path)
    verify = ["leaderboard", "verify", str(path)]
    assert run_command(verify) == 1
    assert "mine_optimizer.py (not found here); --trust runs" in capsys.readouterr().out
    assert run_command([*verify, "--trust", "--write"]) == 0
    assert "from the record, which is trusted" in capsys.readouterr().out
    record = read_record(path)
    assert record.label == json.loads(path.read_text())["label"] == "verified"
    assert record.verification is not None
    assert record.verification.exact
    assert sorted(os.listdir(tmp_path)) == ["mine.json"]
    assert not any(name.startswith("mine_") for name in sys.modules)


def test_a_name_of_an_unknown_package_runs_only_if_it_is_trusted(path: Path, here: None) -> None:
    for name in ("os.system", "torch.hub.load", "torch.optim.SGD:optimizer=os.system"):
        edit(path, "name", value=name, rehash=True)
        with pytest.raises(SourceError, match="--trust runs it"):
            verify_record(read_record(path))


def test_files_of_a_record_are_written_as_modules_only(tmp_path: Path) -> None:
    for name in ("../x.py", "/x.py", "a/../x.py", "x.txt", "a//x.py"):
        with pytest.raises(InputError, match="expected the path of a module"):
            write_files({name: []}, tmp_path / "inside")
    assert list(tmp_path.iterdir()) == []


def test_sources_of_packages_are_versions(mine: Record) -> None:
    assert read_files("sgd") == read_files("torch.optim.AdamW") == {}
    assert differing_files({}) == {}
    token = FOLDER.set(None)
    try:
        assert set(differing_files(mine.source.files).values()) == {"not found here"}
    finally:
        FOLDER.reset(token)


def test_the_smallest_problems_are_of_every_track(mine: Record) -> None:
    problems = recorded_problems(mine)
    chosen = smallest(problems, budget=0)
    assert [each.problem.track for each in chosen] == ["one-step", "full-gradient"]
    assert min(problems, key=lambda each: each.flops) in chosen
    assert smallest(problems) == problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no record"),
        ("[]", "is no record"),
        ('{"format": 1}', "is no record"),
    ],
)
def test_other_files_are_no_records(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_record(tmp_path / "other.json")


def test_a_record_of_another_format_is_refused(path: Path, tmp_path: Path) -> None:
    edit(path, "format", value=2, rehash=True)
    with pytest.raises(InputError, match="has format 2"):
        read_record(path)
    with pytest.raises(InputError, match="does not exist"):
        read_record(tmp_path / "missing.json")
    with pytest.raises(InputError, match="holds no records"):
        read_records(tmp_path / "missing")


def test_names_of_files() -> None:
    assert file_name("torch.optim.AdamW:betas=(0.9, 0.95)") == "torch.optim.AdamW-betas-0.9-0.95"
    assert file_name("torch.optim.Muon (defaults)") == "torch.optim.Muon-defaults"
    assert file_name("..") == "record"


def test_submit_and_verify_as_commands(
    mine: Record, folder: Path, here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit = ["leaderboard", "submit", "--out", str(tmp_path)]
    entry = ["--from", str(folder / "board"), "--name", "mine", "--claim", "It wins."]
    assert run_command([*submit, *entry]) == 0
    record, *results = capsys.readouterr().out.splitlines()
    assert record == f"record: {tmp_path / 'mine.json'}"
    assert [line.split(":")[0] for line in results] == ["  one-step", "  full-gradient"]
    assert all(
        re.search(r": \d\.\d\d \[.*\], no rank: measured by other", line) for line in results
    )
    doubt = ["--from", str(folder / "board"), "--of", str(tmp_path / "mine.json")]
    assert run_command([*submit, *doubt]) == 2
    assert "needs a sentence" in capsys.readouterr().err
    for optimizer, options in ((NAME, []), ("sgd", ["--claim", "No."])):  # before it is measured
        about = ["--of", str(tmp_path / "mine.json"), "--dims", "8", "--seeds", "31"]
        assert run_command([*submit, optimizer, *about, *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "needs a sentence" in errors[0]
    assert f"is about optimizer '{NAME}'" in errors[1]
    assert run_command([*submit, *doubt, "--claim", "It does not."]) == 0
    records = read_records(tmp_path)
    assert list(records) == ["mine", "mine_optimizer-Mine-sceptical"]
    sceptical = records["mine_optimizer-Mine-sceptical"]
    assert (sceptical.kind, sceptical.of) == ("sceptical", records["mine"].sha256)
    paths = [str(path) for path in tmp_path.iterdir()]
    assert run_command(["leaderboard", "verify", *paths]) == 0
    assert capsys.readouterr().out.count("reproduced: 3 of 3 problems run again") == 2
    edit(tmp_path / "mine.json", "author", value="Somebody else")
    assert run_command(["leaderboard", "verify", *paths]) == 1
    assert "was edited after it was written" in capsys.readouterr().out


def test_submit_prints_the_rank_among_the_records(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = LeaderboardGrid(**TINY)
    monkeypatch.setattr(commands, "track_tables", partial(track_tables, board=board))
    records = tmp_path / "records"
    for number, optimizer in enumerate(("sgd:lr=1", "sgd:lr=2")):
        measure(tmp_path / optimizer, optimizer)
        submit = ["leaderboard", "submit", "--from", str(tmp_path / optimizer)]
        assert run_command([*submit, "--out", str(records)]) == 0
        _, *results = capsys.readouterr().out.splitlines()
        assert all(re.search(rf"\], rank \d of {number + 1} in {records}$", x) for x in results)
        assert len(results) == 2
    record, *_ = sorted(records.glob("*.json"))
    record.write_text("{}")
    measure(tmp_path / "third", "sgd:lr=3")
    submit = ["leaderboard", "submit", "--from", str(tmp_path / "third"), "--out", str(records)]
    assert run_command(submit) == 0
    why, written, *results = capsys.readouterr().out.splitlines()
    assert why.startswith("without ranks: ")
    assert f"{record.name} is no record" in why
    assert written.startswith("record: ")
    assert len(results) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("submit", "give the optimizer to measure"),
        ("submit sgd --from results", "give the optimizer to measure"),
        ("submit sgd --name a/b", "expected letters"),
        ("--dims 8 submit sgd", "--dims stands before submit"),
        ("submit --from nowhere", "holds no summary.json"),
    ],
)
def test_unusable_arguments_are_one_line(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["leaderboard", *options.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_leaderboards_help_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["leaderboard", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("submit", "verify", "--tracks", "--optimizers"))
