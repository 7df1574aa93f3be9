"""Files for a paper: PDF, SVG, LaTeX, CSV and captions beside the report."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from memsolve.engine import TableCell
from memsolve.engine.storage.folder import FolderError
from memsolve.report import write_report
from memsolve.report.captions import provenance, table_caption
from memsolve.report.ownership import MARKS, refuse_foreign
from memsolve.report.paper import csv_table, escape_latex, latex_table
from memsolve.report.table import columns
from tests.memsolve.report_cases import STUDIES, names, study

NAMES = {
    *(f"precision.{kind}" for kind in ("png", "pdf", "svg")),
    *(f"precision-table.{kind}" for kind in ("tex", "csv")),
    "captions.txt",
    "report.html",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    write_report([study("precision", 3)], folder)
    return folder


def test_every_figure_and_table_has_its_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == NAMES
    assert (folder / "precision.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (folder / "precision.svg").read_bytes()
    page = (folder / "report.html").read_text()
    assert "<svg" not in page
    assert "precision (.png, .pdf, .svg): Share of the exact capacity" in page


def test_the_same_study_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    write_report([study("precision", 3)], tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_files_of_others_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    refuse_foreign(folder, NAMES)
    assert {Path(name).suffix for name in NAMES} == set(MARKS)
    for name in NAMES:
        (tmp_path / name).write_text("mine")
        with pytest.raises(FolderError, match="was not written by memsolve"):
            refuse_foreign(tmp_path, [name])


def test_captions_say_what_was_measured_and_how(folder: Path) -> None:
    text = (folder / "captions.txt").read_text()
    assert "precision-table: precision: share of the exact polar factor's capacity." in text
    assert text.count("alpha = 1.5, d = 32, 64, 128, N = 2048, 4096, 8192") == 2
    assert text.count("Student's 95% intervals over seeds") == 2
    assert text.count("Measured by: memsolve precision --seeds 2") == 2
    assert "(d = 32; d = 64; d = 128; share and 95% interval over seeds)" in text
    _, summary = study("capacity", 1)
    assert ", 5 seeds." in provenance(replace(summary, grid={"seeds": 5}))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_table_for_a_paper(name: str) -> None:
    table_study, summary = study(name, 3)
    caption = table_caption(table_study, summary)
    assert "alpha = 1.5, d = 32, 64, 128" in caption
    cells = columns(table_study, summary)
    lines = latex_table(cells, caption, name).splitlines()
    assert len([line for line in lines if line.endswith(r" \\")]) == 1 + 3
    assert len(csv_table(cells, caption).splitlines()) == 2 + 3


COLUMNS = {
    "optimizer": [TableCell(name) for name in (*names(2), "a_b:c={1}&50%")],
    "exponent [95%]": [TableCell("1.36 [1.33, 1.39]"), TableCell("-"), TableCell("[x] ~ d^2 \\ #")],
}


def test_latex_is_escaped() -> None:
    lines = latex_table(COLUMNS, "N = 2 d^2, 95%", "board").splitlines()
    assert lines[0] == r"% memsolve: needs \usepackage{booktabs}"
    assert r"\caption{N = 2 d\textasciicircum{}2, 95\%}" in lines
    assert r"\label{tab:board}" in lines
    assert r"optimizer & exponent [95\%] \\" in lines
    assert r"sgd & 1.36 [1.33, 1.39] \\" in lines
    last = (
        r"a\_b:c=\{1\}\&50\% & {}[x] \textasciitilde{} d\textasciicircum{}2 "
        r"\textbackslash{} \# \\"
    )
    assert last in lines
    assert escape_latex("d² $x$ < y…") == r"d\textsuperscript{2} \$x\$ \textless{} y\ldots{}"


def test_csv_begins_with_its_caption_and_holds_the_table() -> None:
    comment, *lines = csv_table(COLUMNS, "N = 2 d^2").splitlines()
    assert comment == "# memsolve: N = 2 d^2"
    header, *rows = csv.reader(lines)
    assert header == [*COLUMNS]
    assert rows[0] == ["sgd", "1.36 [1.33, 1.39]"]
    assert rows[1] == ["muon", ""]
