"""The page in a real browser: silent, alone, usable by keyboard, and accessible (axe-core)."""

import hashlib
import shutil
import subprocess
import tarfile

import pytest
from playwright.sync_api import sync_playwright

from compat.flip_strips import draw_strips
from compat.report_page import render_page

AXE = "axe-core@4.10.3"
AXE_SHA256 = "0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def page_file(drawn, full_report, tmp_path_factory):
    """A page with every section, pictures of flips included."""
    flips = draw_strips(full_report, drawn.evidence)
    assert flips is not None
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render_page(full_report, flips=flips))
    return file


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe(request):
    """axe-core's script, fetched once by npm and checked; kept in pytest's cache."""
    folder = request.config.cache.mkdir("axe")
    packed = folder / "axe-core-4.10.3.tgz"
    if not packed.exists():
        try:
            subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, check=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"axe-core cannot be fetched by npm here: {error}")
    assert hashlib.sha256(packed.read_bytes()).hexdigest() == AXE_SHA256
    with tarfile.open(packed) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_the_page_is_silent_and_asks_nobody(browser, page_file, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert (
        page.locator("header .badge").first.bounding_box()["y"] < 850
    )  # verdict on the first screen
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    loaded = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert loaded
    assert min(loaded) > 0
    page.close()


@pytest.mark.parametrize(
    "name", ["objections", "flips", "slices", "stress", "devices", "diagnosis"]
)
def test_every_section_is_shown(browser, page_file, name):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    assert page.locator(f"section:has(> #{name})").bounding_box()["height"] > 80
    page.close()


def test_the_keyboard_reaches_everything(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    wanted = page.evaluate(
        """() => {
          const all = [...document.querySelectorAll('a[href], summary, [tabindex="0"]')]
            .filter(each => each.checkVisibility());
          all.forEach((each, place) => each.dataset.place = place);
          return all.length;
        }"""
    )
    assert wanted > 10
    reached = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.place"))
    assert reached == [str(place) for place in range(wanted)]
    page.locator("#details ~ details summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#details ~ details").first.get_attribute("open") is not None
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, page_file, axe, scheme):
    page = browser.new_context(bypass_csp=True, color_scheme=scheme).new_page()
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 10  # it did look
    serious = [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
    page.close()


def test_axe_would_find_a_fault(browser, page_file, axe, tmp_path):
    """The same run on a page with an unnamed picture and pale words is not silent."""
    spoilt = tmp_path / "spoilt.html"
    text = page_file.read_text().replace('alt="', 'data-alt="')
    spoilt.write_text(text.replace("--muted: #5a6472", "--muted: #c8ccd2"))
    page = browser.new_context(bypass_csp=True, color_scheme="light").new_page()
    page.goto(spoilt.as_uri())
    page.evaluate(axe)
    rules = ["image-alt", "color-contrast"]
    found = page.evaluate("rules => axe.run({runOnly: rules})", rules)["violations"]
    found = {each["id"] for each in found}
    assert {"image-alt", "color-contrast"} <= found
    page.close()
