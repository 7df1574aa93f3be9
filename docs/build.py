"""Build the documentation site in `site/`: `make docs`.

The site's source, `build/docs/`, is laid out like the repository, so that one relative link serves
a reader of the repository and of the site. Warnings are errors.
"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "docs"
TUTORIAL = ROOT / "docs" / "tutorial.py"

FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every Markdown page of the site but the tutorial, relative to the repository."""
    above = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/NOTES.md", "kernels/README.md"]
    docs = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))
    return [*map(Path, above), *docs]


def relative_links(text: str) -> list[str]:
    """Targets of the relative links and images of a page, without their anchors."""
    targets = [target.partition("#")[0] for target in TARGET.findall(FENCED.sub("", text))]
    return [target for target in targets if target and ":" not in target]


def cells(script: str) -> Iterator[tuple[bool, str]]:
    """Cells of a script in percent format: whether it is Markdown, and its text."""
    for cell in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        markdown = "[markdown]" in head
        yield markdown, re.sub("^# ?", "", body, flags=re.MULTILINE) if markdown else body


def render_tutorial(script: str, figures: Path) -> str:
    """Run the tutorial in the current folder; Markdown of its cells and of what they print.

    Args:
        script: in percent format.
        figures: folder to write the figures of its cells to.
    """
    mpl.use("Agg")
    from matplotlib import pyplot

    namespace: dict[str, Any] = {"__name__": "tutorial"}
    parts: list[str] = []
    for markdown, body in cells(script):
        if markdown:
            parts.append(body.strip())
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(body, str(TUTORIAL), "exec"), namespace)
        parts.append(f"```python\n{body.strip()}\n```")
        if printed := output.getvalue().strip():
            parts.append(f"```text\n{printed}\n```")
        for number in pyplot.get_fignums():
            name = f"tutorial-{len(parts)}.png"
            figure = pyplot.figure(number)
            figure.savefig(figures / name, dpi=150)
            parts.append(f"![{figure.axes[0].get_title()}]({name})")
        pyplot.close("all")
    return "\n\n".join(parts) + "\n"


def lay_out(source: Path, names: Iterable[Path]) -> None:
    """Copy pages, and the files that they link to, to the same places below `source`."""
    for name in names:
        text = (ROOT / name).read_text().replace("tutorial.py)", "tutorial.md)")
        for target in relative_links(text):
            linked = (ROOT / name.parent / target).resolve()
            if linked.is_dir():  # a site cannot show it
                text = re.sub(rf"\[([^]]*)\]\({re.escape(target)}\)", r"\1", text)
            elif linked.suffix != ".md":  # pages are copied by name, and the builder checks links
                _write(source / linked.relative_to(ROOT), linked.read_bytes())
        _write(source / name, text.encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> int:
    """Lay the source out, run the tutorial, build the site and the leaderboard in it."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    lay_out(SOURCE, pages())
    runs = ROOT / "build" / "tutorial"
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    with contextlib.chdir(runs):
        text = render_tutorial(TUTORIAL.read_text(), SOURCE / "docs")
    (SOURCE / "docs" / "tutorial.md").write_text(text)
    shutil.copyfile(TUTORIAL, SOURCE / "docs" / "tutorial.py")
    return build() or build_leaderboard()


def build_leaderboard() -> int:
    """Add the leaderboard's pages, once there are records; the exit status."""
    if not any((ROOT / "records").glob("*.json")):
        return 0
    command = [sys.executable, "-m", "memsolve.records.site", "records", "site/leaderboard"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def build() -> int:
    """Build the site from its source; the exit status."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
