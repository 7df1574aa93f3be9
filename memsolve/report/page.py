"""Figures on disk, and the report: one HTML file that opens anywhere."""

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
from memsolve.report.alt import describe
from memsolve.report.drawing import NARROW, WIDE, optimizers, style
from memsolve.report.names import short
from memsolve.report.ownership import GENERATOR, refuse_foreign
from memsolve.report.printable import readable
from memsolve.report.table import columns, notes

DPI = 160
REPORT = "report.html"
CSS_DPI = 96
"""Pixels of a style sheet in an inch, whatever the screen."""


class Picture(NamedTuple):
    """A figure as the page shows it.

    Attributes:
        png: of the file.
        alt: what is seen.
        width, height: in pixels of a style sheet.
    """

    png: bytes
    alt: str
    width: int
    height: int

    @property
    def source(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def write_report(finished: Sequence[Finished], folder: Path) -> Path:
    """Write every figure (PNG) and `report.html`, with the figures inside it, into `folder`.

    The page has each figure twice: as it is on disk, and narrow, for a phone.

    Returns:
        The path of the report.

    Raises:
        FolderError: another process holds the folder, a file cannot be written, or one of that
            name was not written by this program.
    """
    with alone(folder):
        return _write([(study, readable(summary)) for study, summary in finished], folder)


def _write(finished: Sequence[Finished], folder: Path) -> Path:
    refuse_foreign(folder, [REPORT])
    sections = []
    files: dict[str, bytes] = {}
    seen: Counter[str] = Counter()
    for study, summary in finished:
        seen[study.name] += 1
        suffix = f"-{seen[study.name]}" if seen[study.name] > 1 else ""
        wide, narrow = (pictures(study, summary, width) for width in (WIDE, NARROW))
        files |= {f"{name}{suffix}.png": picture.png for name, picture in wide.items()}
        sections.append(
            {
                "id": f"{study.name}{suffix}",
                "study": study,
                "summary": summary,
                "columns": columns(study, summary),
                "notes": notes(summary),
                "short": short(optimizers(summary)),
                "figures": {f"{name}{suffix}": (wide[name], narrow[name]) for name in wide},
            }
        )
    page = Environment(
        loader=PackageLoader("memsolve.report"), autoescape=True, undefined=StrictUndefined
    ).get_template("report.html.jinja")
    files[REPORT] = page.render(sections=sections, generator=GENERATOR).encode()
    refuse_foreign(folder, files)  # their names are those of the figures drawn
    for name, content in files.items():
        write(folder / name, content)
    return folder / REPORT


def pictures(study: AnyStudy, summary: Summary[Any], width: float) -> dict[str, Picture]:
    """The figures of a study on a page of so many inches, by name."""
    with style(width):
        return {name: picture(figure) for name, figure in study.figures(summary).items()}


def picture(figure: Figure) -> Picture:
    """A figure drawn and described."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": GENERATOR})
    width, height = (round(CSS_DPI * inches) for inches in figure.get_size_inches())
    return Picture(buffer.getvalue(), describe(figure), width, height)
