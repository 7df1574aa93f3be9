"""A headless Chromium, where one is installed: what it makes of a page."""

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

BROWSERS = "chromium", "chromium-browser", "google-chrome", "chrome"
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
HEADLESS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    "--virtual-time-budget=20000",
)

FRAME = """<!doctype html>
<iframe src="{page}" style="width: {width}px; height: 2000px; border: 0"></iframe>
<script>
addEventListener("message", (event) => document.body.append(JSON.stringify(event.data)));
</script>
"""

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")


def seen(address: str, profile: Path, *options: str) -> str:
    """The page at an address once its scripts have run, as HTML."""
    command = [str(BROWSER), *HEADLESS, *options, f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120)
    return done.stdout


def view(
    folder: Path, page: Path, script: str, width: int, *options: str, fragment: str = ""
) -> dict[str, Any]:
    """What a script sees of a page on a screen of that many pixels.

    Args:
        folder: for the files that the browser opens.
        page: the file of the page.
        script: an element that posts an object, whose first property is `width`, to its parent.
        width: of the screen.
        options: of the browser.
        fragment: of the page's address, with its `#`.
    """
    look, frame = folder / "look.html", folder / "frame.html"
    look.write_text(page.read_text() + script)
    frame.write_text(FRAME.format(page=look.name + fragment, width=width))
    shown = seen(frame.as_uri(), folder / "profile", *options)
    message = shown[shown.index('{"width') : shown.rindex("</body>")]
    properties: dict[str, Any] = json.loads(unescape(message))
    return properties
