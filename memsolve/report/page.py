"""Files of a report: figures, tables, captions, and one self-contained HTML file."""

import base64
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from memsolve.engine import Summary
from memsolve.engine.results.merge import Finished
from memsolve.engine.storage.folder import alone, write
from memsolve.engine.study import AnyStudy
from memsolve.report.alt_text import describe
from memsolve.report.captions import figure_caption, table_caption
from memsolve.report.drawing import DESKTOP_WIDTH, PHONE_WIDTH, figure_style, optimizers
from memsolve.report.escape import escape_all
from memsolve.report.names import shorten_names
from memsolve.report.ownership import GENERATOR, refuse_foreign
from memsolve.report.paper import captions_file, csv_table, latex_table, vector_files
from memsolve.report.table import Columns, columns, notes, paper_columns

DPI = 160
REPORT = "report.html"
CAPTIONS = "captions.txt"
CSS_DPI = 96
"""Pixels of CSS in an inch, on every screen."""


class Picture(NamedTuple):
    """A figure, rendered.

    Attributes:
        png: content of the file.
        alt: description in words.
        width, height: in pixels of CSS.
    """

    png: bytes
    alt: str
    width: int
    height: int

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


class Section(NamedTuple):
    """What the page shows of one study.

    Attributes:
        id: unique on the page.
        study, summary: of the section.
        names: titles of the columns that name a row.
        columns: of the table.
        notes: below the table.
        conclusions: likewise, in sentences.
        short_names: by optimizer.
        figures: by file name (without suffix), for a desktop and for a phone.
        captions: by the name of a figure or a table.
        files: further files, by name.
    """

    id: str
    study: AnyStudy
    summary: Summary[Any]
    names: list[str]
    columns: Columns
    notes: list[str]
    conclusions: list[str]
    short_names: dict[str, str]
    figures: dict[str, tuple[Picture, Picture]]
    captions: dict[str, str]
    files: dict[str, bytes]


def write_report(finished: Sequence[Finished], folder: Path) -> Path:
    """Write `report.html`, which contains all figures, and the files of figures and tables.

    The page contains each figure twice: as on disk, and narrow, for a phone. Beside it are each
    figure as PNG, PDF and SVG, each table as LaTeX and CSV, and their captions.

    Returns:
        The path of the report.

    Raises:
        FolderError: another process holds the folder, a file cannot be written, or memsolve would
            overwrite a file that it did not write.
    """
    with alone(folder):
        refuse_foreign(folder, [REPORT])
        sections = _sections([(study, escape_all(summary)) for study, summary in finished])
        files: dict[str, bytes] = {}
        captions: dict[str, str] = {}
        for section in sections:
            files |= section.files
            captions |= section.captions
        files |= {CAPTIONS: captions_file(captions), REPORT: _render_page(sections).encode()}
        refuse_foreign(folder, files)
        for name, content in files.items():
            write(folder / name, content)
    return folder / REPORT


def _sections(finished: Sequence[Finished]) -> list[Section]:
    """A section for each study; the second of one name, and its files, have a suffix."""
    sections = []
    times: Counter[str] = Counter()
    for study, summary in finished:
        times[study.name] += 1
        suffix = f"-{times[study.name]}" if times[study.name] > 1 else ""
        sections.append(_section(study, summary, suffix))
    return sections


def _section(study: AnyStudy, summary: Summary[Any], suffix: str) -> Section:
    """What the page shows of one study, and its files."""
    narrow = render_figures(study, summary, PHONE_WIDTH)
    cells, table = columns(study, summary), f"{study.name}{suffix}-table"
    captions = {table: table_caption(study, summary)}
    figures: dict[str, tuple[Picture, Picture]] = {}
    files = {
        f"{table}.tex": latex_table(paper_columns(study, summary), captions[table], table).encode(),
        f"{table}.csv": csv_table(cells, captions[table]).encode(),
    }
    with figure_style(DESKTOP_WIDTH):
        for short_name, figure in study.figures(summary).items():
            name = f"{short_name}{suffix}"
            wide = render(figure)
            figures[name] = wide, narrow[short_name]
            captions[name] = figure_caption(study, summary, figure)
            files |= {f"{name}.png": wide.png, **vector_files(name, figure)}
    return Section(
        f"{study.name}{suffix}",
        study,
        summary,
        [*study.rows(summary.fits)[0].names],
        cells,
        notes(summary),
        study.conclusions(summary),
        shorten_names(optimizers(summary)),
        figures,
        captions,
        files,
    )


def _render_page(sections: Sequence[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("memsolve.report"), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("report.html.jinja")
    return template.render(sections=sections, generator=GENERATOR)


def render_figures(study: AnyStudy, summary: Summary[Any], width: float) -> dict[str, Picture]:
    """The figures of a study on a page of that many inches, by name."""
    with figure_style(width):
        return {name: render(figure) for name, figure in study.figures(summary).items()}


def render(figure: Figure) -> Picture:
    """A figure as a picture with its description."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": GENERATOR})
    width, height = (round(CSS_DPI * inches) for inches in figure.get_size_inches())
    return Picture(buffer.getvalue(), describe(figure), width, height)
