"""asv's site with its libraries beside it, so that it opens without the internet."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

from bench.gate.tree import ROOT

MANIFEST = Path(__file__).parent / "site" / "package.json"
INSTALLED = ROOT / ".asv" / "libraries"
FOLDER = "libraries"

_REMOTE = re.compile(r'(?:src|href)="https://[^"]+/([^"/]+\.(?:js|css))"[^>]*')


def bring(html: Path) -> bool:
    """Let the site in `html` load its libraries from itself.

    Returns:
        Whether it does; without npm, or its registry, the site goes on loading them from the
        internet.
    """
    index = html / "index.html"
    page = index.read_text()
    names = {match[1] for match in _REMOTE.finditer(page)}
    files = _installed(names)
    if not files:
        _install()
        files = _installed(names)
    if not files:
        return False
    (html / FOLDER).mkdir()
    for name, path in files.items():
        shutil.copy(path, html / FOLDER / name)

    def local(match: re.Match[str]) -> str:
        attribute = "href" if match[1].endswith(".css") else "src"
        return f'{attribute}="{FOLDER}/{match[1]}"'

    index.write_text(_REMOTE.sub(local, page))
    return True


def _installed(names: set[str]) -> dict[str, Path]:
    """The file of each name; none, unless all are there."""
    files = (INSTALLED / "node_modules").rglob("*.*s")
    found = {
        _plain(path.name): path for path in sorted(files, key=lambda path: ".min." in path.name)
    }
    if any(_plain(name) not in found for name in names):
        return {}
    return {name: found[_plain(name)] for name in names}


def _install() -> None:
    """Let npm begin anew: it does not mend what an interrupted installation left."""
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir(parents=True)
    shutil.copy(MANIFEST, INSTALLED)
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(command, cwd=INSTALLED, check=True, capture_output=True)


def _plain(name: str) -> str:
    """Without version and `.min`."""
    return re.sub(r"-[\d.]+(?=\.min\.)|\.min(?=\.)", "", name)
