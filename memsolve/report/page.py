"""Figures on disk, and the report: one HTML file that opens anywhere."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from memsolve.report.figures import figures
from memsolve.report.table import details, header, rows
from memsolve.report.words import DEFINITIONS, LABELS
from memsolve.study import Summary


def write_report(summaries: Sequence[Summary], folder: Path) -> Path:
    """Write every figure (PNG) and `report.html`, with the figures inside it, into `folder`.

    Returns:
        The path of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    studies = []
    for number, summary in enumerate(summaries):
        earlier = sum(other.study == summary.study for other in summaries[:number])
        suffix = f"-{earlier + 1}" if earlier else ""
        drawn = {f"{name}{suffix}": _png(figure) for name, figure in figures(summary).items()}
        for name, image in drawn.items():
            (folder / f"{name}.png").write_bytes(image)
        studies.append(
            {
                "summary": summary,
                "label": LABELS[summary.study],
                "definition": DEFINITIONS[summary.study],
                "header": header(summary),
                "rows": rows(summary),
                "details": details(summary),
                "images": {name: base64.b64encode(image).decode() for name, image in drawn.items()},
            }
        )
    page = Environment(loader=PackageLoader("memsolve.report"), autoescape=True)
    report = folder / "report.html"
    report.write_text(page.get_template("report.html.jinja").render(studies=studies))
    return report


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()
