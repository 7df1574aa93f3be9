"""Figures on disk, and the report: one HTML file that opens anywhere."""

import base64
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from memsolve.engine import Study, Summary
from memsolve.engine.folder import write
from memsolve.report.drawing import STYLE
from memsolve.report.table import details, header, notes, rows

Finished = tuple[Study[Any, Any, Any], Summary[Any]]


def write_report(finished: Sequence[Finished], folder: Path) -> Path:
    """Write every figure (PNG) and `report.html`, with the figures inside it, into `folder`.

    Returns:
        The path of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    seen: Counter[str] = Counter()
    for study, summary in finished:
        seen[study.name] += 1
        suffix = f"-{seen[study.name]}" if seen[study.name] > 1 else ""
        with mpl.rc_context(STYLE):
            drawn = study.figures(summary)
            images = {f"{name}{suffix}": _png(figure) for name, figure in drawn.items()}
        for name, image in images.items():
            write(folder / f"{name}.png", image)
        sections.append(
            {
                "study": study,
                "summary": summary,
                "header": header(study, summary),
                "rows": rows(study, summary),
                "details": details(study, summary),
                "notes": notes(summary),
                "images": {
                    name: base64.b64encode(image).decode() for name, image in images.items()
                },
            }
        )
    page = Environment(loader=PackageLoader("memsolve.report"), autoescape=True)
    report = folder / "report.html"
    write(report, page.get_template("report.html.jinja").render(sections=sections))
    return report


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()
