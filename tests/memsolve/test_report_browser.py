"""Reports of three, twelve and forty optimizers as a browser shows them, on a desk and a phone."""

from pathlib import Path
from typing import Any

import pytest

from memsolve.report import write_report
from tests import browser
from tests.memsolve.report_cases import names, study

LOOK = """
<script>
addEventListener("load", () => setTimeout(() => {
  const frame = document.querySelector(".frame");
  const column = (place) => [...frame.querySelectorAll(`tbody tr`)].map(
    (row) => row.cells[place].querySelector("summary")?.title || row.cells[place].textContent);
  const titles = [...frame.querySelectorAll("thead button")];
  const sorted = (place) => { titles[place].click(); return column(place); };
  const last = titles.length - 1;
  parent.postMessage({
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    images: [...document.images].map((image) => [image.naturalWidth, image.clientWidth]),
    hints: [...document.querySelectorAll(".frame")].map((frame) => [
      frame.scrollWidth > frame.clientWidth + 1,
      !frame.previousElementSibling.hidden,
      frame.classList.contains("right"),
    ]),
    dark: getComputedStyle(document.body).backgroundColor,
    initial: column(0),
    descending: sorted(last).map(parseFloat),
    ascending: sorted(last).map(parseFloat),
    by_name: sorted(0),
    order: frame.querySelector("th").ariaSort,
  }, "*");
}, 500));
</script>
"""


def view(folder: Path, width: int, *options: str) -> dict[str, Any]:
    """What a browser shows of the report in a folder, on a screen of that many pixels."""
    return browser.view(folder, folder / "report.html", LOOK, width, *options)


@browser.needs_browser
@pytest.mark.parametrize(
    ("count", "studies"),
    [(3, ["capacity", "critical-batch"]), (12, ["capacity"]), (40, ["capacity", "saturation"])],
)
def test_a_report_on_a_desktop_on_a_phone_and_in_dark_mode(
    tmp_path: Path, count: int, studies: list[str]
) -> None:
    write_report([study(name, count) for name in studies], tmp_path)
    desk, phone = view(tmp_path, 1280), view(tmp_path, 390)
    for shown, width in ((desk, 1280), (phone, 390)):
        assert shown["width"] == width
        assert shown["page"] <= width  # only tables scroll sideways
        assert len(shown["images"]) == len(list(tmp_path.glob("*.png")))
        assert all(0 < client <= min(width, natural) for natural, client in shown["images"])
        assert all(len(set(hint)) == 1 for hint in shown["hints"]), shown["hints"]
        assert shown["initial"] == names(count)
        assert shown["descending"] == sorted(shown["descending"], reverse=True)
        assert shown["ascending"] == sorted(shown["descending"])
        assert sorted(shown["by_name"], key=str.lower) == sorted(names(count), key=str.lower)
        assert shown["order"] == "ascending"
    assert all(wide for wide, _, _ in phone["hints"])
    assert phone["images"][0][0] != desk["images"][0][0]  # a figure of its own, not a smaller one
    assert desk["dark"] == "rgb(255, 255, 255)"
    night = view(tmp_path, 390, "--blink-settings=preferredColorScheme=0")
    assert night["dark"] == "rgb(22, 22, 22)"
