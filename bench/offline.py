"""asv's site with its libraries beside it, so that it opens without the internet."""

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
    found = libraries()
    index = html / "index.html"
    page = index.read_text()
    names = {match[1] for match in _REMOTE.finditer(page)}
    if not all(_plain(name) in found for name in names):
        return False
    (html / FOLDER).mkdir()
    for name in names:
        shutil.copy(found[_plain(name)], html / FOLDER / name)

    def local(match: re.Match[str]) -> str:
        attribute = "href" if match[1].endswith(".css") else "src"
        return f'{attribute}="{FOLDER}/{match[1]}"'

    index.write_text(_REMOTE.sub(local, page))
    return True


def libraries() -> dict[str, Path]:
    """Installed scripts and styles by file name, without version and `.min`."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    shutil.copy(MANIFEST, INSTALLED)
    if not (INSTALLED / "node_modules").is_dir():
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        try:
            subprocess.run(
                [*command, "--ignore-scripts"], cwd=INSTALLED, check=True, capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            return {}
    files = sorted(
        (INSTALLED / "node_modules").rglob("*.*s"), key=lambda path: ".min." in path.name
    )
    return {_plain(path.name): path for path in files}


def _plain(name: str) -> str:
    return re.sub(r"-[\d.]+(?=\.min\.)|\.min(?=\.)", "", name)
