"""Files for a paper: figures as PDF and SVG, tables as LaTeX and CSV, and captions.

They hold no dates and no random names, so the same study gives the same files.
"""

import csv
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

from memsolve.engine.results.tidy import UnixLines, escape_formula
from memsolve.report.names import shorten_names
from memsolve.report.ownership import COMMENT, GENERATOR
from memsolve.report.table import Columns

METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"Creator": GENERATOR, "Producer": None, "CreationDate": None},
    "svg": {"Creator": GENERATOR, "Date": None},
}
"""By format: the mark of ownership, and no date."""

NONE = "-"
"""The text of a cell without a value, which is empty in CSV."""

LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    "…": r"\ldots{}",
}
"""Characters that LaTeX would interpret or lacks."""


def vector_files(name: str, figure: Figure) -> dict[str, bytes]:
    """The figure as PDF and SVG, by file name."""
    return {f"{name}.{kind}": _render(figure, kind) for kind in METADATA}


def _render(figure: Figure, kind: str) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


def captions_file(captions: Mapping[str, str]) -> bytes:
    """The captions of all files, a paragraph each."""
    paragraphs = [f"{name}: {caption}" for name, caption in captions.items()]
    return "\n\n".join([f"{COMMENT}captions", *paragraphs, ""]).encode()


def latex_table(columns: Columns, caption: str, label: str) -> str:
    r"""A table for the package booktabs with short names, its texts escaped.

    Args:
        columns: cells by title.
        caption: of the table.
        label: for `\\ref`, after `tab:`.
    """
    short = shorten_names(cell.text for cell in columns["optimizer"])
    texts = {title: [cell.text for cell in cells] for title, cells in columns.items()}
    texts["optimizer"] = [short[name] for name in texts["optimizer"]]
    rows = [_row(row) for row in zip(*texts.values(), strict=True)]
    return "\n".join(
        [
            f"% {COMMENT}needs \\usepackage{{booktabs}}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{'l' * len(texts)}}}",
            r"\toprule",
            _row(texts),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def csv_table(columns: Columns, caption: str) -> str:
    """The caption as a comment, then the table as it is shown, with full names."""
    lines = UnixLines()
    lines.write(f"# {COMMENT}{caption}")
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(escape_formula("" if cell.text == NONE else cell.text) for cell in row)
    return lines.getvalue()


def escape_latex(text: str) -> str:
    """A text that LaTeX shows literally."""
    return re.sub(r"[\\&%$#_{}~^<>|²…]", lambda match: LATEX[match[0]], text)


def _row(texts: Any) -> str:
    r"""A row; a cell that begins with a bracket would be an argument of the `\\` before it."""
    cells = map(escape_latex, texts)
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + r" \\"
