"""The command line: the files that it writes, and its error messages."""

import json
import re
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from memsolve.__main__ import main
from memsolve.engine.run import run as run_study
from memsolve.study import Grid, capacity


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["memsolve", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


class Links(HTMLParser):
    """The addresses that a page fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attribute = "href" if tag == "link" else "src"
        self.sources += [value or "" for name, value in attrs if name == attribute]


def test_two_studies_and_their_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alphas = {"capacity": [1.5, 2.0], "saturation": [1.5]}
    for study, values in alphas.items():
        options = ["--dims", "8,16", "--seeds", "2", "--alpha", ",".join(map(str, values))]
        assert run(monkeypatch, study, *options, "--out", str(tmp_path / study)) == 0
    folders = [str(tmp_path / study) for study in alphas]
    assert run(monkeypatch, "report", *folders, "--out", str(tmp_path)) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out

    for study, values in alphas.items():
        summary = json.loads((tmp_path / study / "summary.json").read_text())
        assert summary["study"] == study
        assert summary["environment"]["torch"]
        assert [(fit["optimizer"], fit["alpha"]) for fit in summary["fits"]] == [
            (optimizer, alpha) for alpha in values for optimizer in ("sgd", "muon", "newton")
        ]
        quantities = {fit["quantity"] for fit in summary["fits"]}
        assert quantities == {"recovered" if study == "capacity" else "saturation_batch_size"}
        assert (tmp_path / study / "report.html").exists()
    page = (tmp_path / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert len(links.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in links.sources)
    assert "memsolve capacity --alpha 1.5,2.0 --dims 8,16" in page
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_precision_and_its_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--dims", "16", "--seeds", "2", "--out", str(tmp_path)]
    assert run(monkeypatch, "precision", *options) == 0
    assert "muon:schedule=muon:steps=5:dtype=bfloat16" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {fit["quantity"] for fit in summary["fits"]} == {"recovered"}
    assert all(0 <= fit["points"][0]["share"] < 2 for fit in summary["fits"])
    assert (tmp_path / "precision.png").stat().st_size > 0


@pytest.mark.parametrize(
    "options",
    [
        "saturation --batch-sizes 4",  # nothing identified
        "capacity --optimizers torch.optim.SGD:lr=0",  # nothing recovered
        "capacity --optimizers torch.optim.SGD:lr=1:foreach=None,torch.optim.AdamW:lr=[/red]$_{$",
    ],
)
def test_poor_results_have_a_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str
) -> None:
    if "red" in options:
        monkeypatch.setattr(torch.optim, "AdamW", lenient)
    common = ["--dims", "16", "--seeds", "2", "--out", str(tmp_path)]
    assert run(monkeypatch, *options.split(), *common) == 0
    assert (tmp_path / "report.html").exists()


class lenient(torch.optim.SGD):  # noqa: N801
    """Accepts any text for a learning rate, so that its label has special characters."""

    def __init__(self, params: list[torch.nn.Parameter], lr: object) -> None:
        super().__init__(params, 1.0)


def test_two_studies_of_a_kind_share_a_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        run_study(capacity, Grid(["sgd", "muon"], dims=[8, 16], seeds=2), tmp_path / name)
    folders = [str(tmp_path / name) for name in ("a", "b")]
    assert run(monkeypatch, "report", *folders, "--out", str(tmp_path / "both")) == 0
    assert len(list((tmp_path / "both").glob("*.png"))) == 1
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "report", *folders, "--out", str(tmp_path / "file")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_recorded_command_measures_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("memsolve.api.write_report", lambda *_: None)
    optimizers = "muon,torch.optim.AdamW:lr=0.01:betas=(0.9, 0.95)"
    options = ["--dims", "8,16", "--seeds", "2", "--optimizers", optimizers]
    assert run(monkeypatch, "capacity", *options, "--out", str(tmp_path / "a")) == 0
    first = json.loads((tmp_path / "a/summary.json").read_text())
    _, *again = shlex.split(first["command"])
    assert run(monkeypatch, *again, "--out", str(tmp_path / "b")) == 0
    assert first == json.loads((tmp_path / "b/summary.json").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("capacity --alpha 0.9", "alphas holds 0.9"),
        ("capacity --alpha x", "--alpha is 'x'; expected numbers"),
        ("capacity --dims 64,x", "--dims is '64,x'; expected whole numbers"),
        ("capacity --dims 1", "dims holds 1"),
        ("capacity --seeds 0", "seeds is 0"),
        ("capacity --seeds x", "--seeds"),
        ("capacity --num-items 10", "num_items is 10"),
        ("saturation --batch-sizes 0,4", "batch_sizes holds 0"),
        ("capacity --batch-sizes 4", "batch_sizes is [4], but this study"),
        ("capacity --optimizers adam", "optimizer 'adam' is unknown"),
        ("capacity --optimizers ,", "optimizers is empty"),
        ("capacity --optimizers nowhere.Adam", "does not import"),
        ("capacity --device abacus", "device 'abacus'"),
        ("capacity --colour red", "--colour"),
        ("capacities", "capacities"),
    ],
)
def test_an_input_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    monkeypatch.setattr("memsolve.engine.execution.process.SUPPORTED", False)  # spares a process
    assert run(monkeypatch, *options.split(), "--out", str(tmp_path / "out")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(r"memsolve: error: ", lines[0])
    assert message in lines[0]


def test_a_folder_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "capacity", "--out", str(tmp_path / "file" / "out")) == 2
    assert "cannot be used for results" in capsys.readouterr().err
