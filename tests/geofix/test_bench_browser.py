"""The page in a browser: it draws, loads nothing, and is as wide as a phone where it has to be."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from geofix.bench.html import html_page
from tests.geofix.latency_reports import make_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), "")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BROWSER, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of two devices."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_page([make_report(label="Orin <15 W>"), make_report(slower=1.2)]))
    return path


def browse(page: Path, *flags: str) -> str:
    """Return what the browser prints of a page."""
    profile = page.with_name("profile")
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*words, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_the_browser_understands_the_page_as_it_is_written(page: Path) -> None:
    found = browse(page, "--dump-dom")
    written = page.read_text()
    for tag in ("svg", "table", "tr", "td", "rect", "polyline", "text", "h2"):
        assert len(re.findall(rf"<{tag}[ >]", found)) == len(re.findall(rf"<{tag}[ >]", written))
    assert "Orin &lt;15 W&gt;" in found


def test_the_browser_draws_bars_in_their_colours(page: Path) -> None:
    from PIL import Image

    picture = page.with_name("page.png")
    browse(page, f"--screenshot={picture}", "--window-size=1100,1600", "--hide-scrollbars")
    with Image.open(picture) as image:
        colours = {colour: num for num, colour in image.convert("RGB").getcolors(1 << 24) or []}
    for bar in ((0, 114, 178), (230, 159, 0), (0, 158, 115)):  # decode, preprocess, encode
        assert colours.get(bar, 0) > 1000
