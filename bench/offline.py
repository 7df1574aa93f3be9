"""asv's site with its libraries beside it, so that it opens without the internet."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

from bench.repository import ROOT

MANIFEST = Path(__file__).with_name("package.json")
INSTALLED = ROOT / ".asv" / "libraries"

_REMOTE = re.compile(r'(src|href)="https://[^"]+/([^"/]+\.(?:js|css))"[^>]*')


def bring(html: Path) -> bool:
    """Let the site in `html` load its libraries from itself.

    Returns:
        Whether it does; without npm, or its registry, the site goes on loading them from the
        internet.
    """
    index = html / "index.html"
    page = index.read_text()
    wanted = {_plain(name) for _, name in _REMOTE.findall(page)}
    if not wanted <= _installed().keys():
        _install()
    files = _installed()
    if not wanted <= files.keys():
        return False

    def local(match: re.Match[str]) -> str:
        attribute, name = match.groups()
        shutil.copy(files[_plain(name)], html / name)
        return f'{attribute}="{name}"'

    index.write_text(_REMOTE.sub(local, page))
    return True


def _installed() -> dict[str, Path]:
    """Files by plain name, minified ones where they are there."""
    files = (INSTALLED / "node_modules").rglob("*.*s")
    return {
        _plain(path.name): path for path in sorted(files, key=lambda file: ".min." in file.name)
    }


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
