"""A headless Chromium, where one is installed: what it makes of a page."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = "chromium", "chromium-browser", "google-chrome", "chrome"
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
HEADLESS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    "--virtual-time-budget=20000",
)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")


def seen(address: str, profile: Path, *options: str) -> str:
    """The page at an address once its scripts have run, as HTML."""
    command = [str(BROWSER), *HEADLESS, *options, f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120)
    return done.stdout
