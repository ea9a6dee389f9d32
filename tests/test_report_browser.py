"""The report in a real browser, without a network: skipped where there is no Chromium with its driver."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_tuner.analysis import analyse
from rl_tuner.report_figures import PLOTS
from rl_tuner.report_page import write_report
from tests.comparing import small
from tests.reporting import renamed

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PHONE, DESKTOP = 390, 1280


def find(*names: str) -> str:
    """The first program of these names that there is, or the test is skipped."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"needs {' or '.join(names)} (Debian: chromium, chromium-driver)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = find("chromium", "chromium-browser", "google-chrome"), find("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.get("about:blank")  # away from the browser's own first page, which asks for a lot
    yield started
    started.quit()


@pytest.fixture(scope="module")
def report(full_report: list[Path]) -> Path:
    return full_report[0]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of methods and jobs with names that no line has room for."""
    comparison = renamed(small(), {"x": "a-policy-of-" + "many-" * 12 + "words", "constant": "x" * 80})
    folder = tmp_path_factory.mktemp("named")
    return write_report(comparison, analyse(comparison), {"command": "y" * 300, "z" * 90: "z" * 90}, folder)[
        0
    ]


def show(browser: Any, report: Path, width: int = DESKTOP, theme: str = "light") -> None:
    """Opens the report on a screen of this width in this theme."""
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(report.as_uri())


def luminance(colour: str) -> float:
    """Relative luminance of an rgb(…) colour, as WCAG 2 defines it."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    low, high = sorted([luminance(one), luminance(two)])
    return (high + 0.05) / (low + 0.05)


def test_the_page_has_no_error_and_asks_for_nothing_but_itself(browser: Any, report: Path) -> None:
    browser.get_log("performance")
    show(browser, report)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in asked
    assert [url for url in asked if url != report.as_uri() and not url.startswith("data:")] == []
    assert browser.get_log("browser") == []
    assert browser.title == "Comparison of 15 methods"


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_every_figure_is_there_to_be_seen(browser: Any, report: Path, width: int) -> None:
    show(browser, report, width)
    boxes = browser.execute_script(
        """return Object.fromEntries([...document.querySelectorAll("figure")].map(figure => {
            const box = figure.querySelector("svg").getBoundingClientRect();
            const drawn = figure.querySelector("svg g").getBoundingClientRect();
            return [figure.id, [box.width, box.height, drawn.width, drawn.height,
                figure.querySelector("svg").checkVisibility()]];
        }))"""
    )
    assert set(boxes) == {f"figure-{plot.name}" for plot in PLOTS}
    for name, (width_, height, drawn_width, drawn_height, visible) in boxes.items():
        assert visible, name
        assert min(width_, drawn_width) > 300, name
        assert min(height, drawn_height) > 150, name


@pytest.mark.parametrize("width", [320, PHONE, 768, DESKTOP])
@pytest.mark.parametrize("page", ["report", "named"])
def test_the_page_is_no_wider_than_its_screen(
    browser: Any, page: str, width: int, request: pytest.FixtureRequest
) -> None:
    show(browser, request.getfixturevalue(page), width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    outside = browser.execute_script(
        """return [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, pre")
            && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName + e.textContent)"""
    )
    assert outside == []


def test_what_is_wide_can_be_scrolled_in_its_own_place(browser: Any, report: Path) -> None:
    show(browser, report, PHONE)
    moved = browser.execute_script(
        """const box = document.querySelector("#methods .scroll"); box.scrollLeft = 200;
        return [box.scrollLeft, box.tabIndex, box.querySelector("tbody th").getBoundingClientRect().left]"""
    )
    assert moved[0] == 200
    assert moved[1] == 0
    assert moved[2] >= 0  # the method's name stays in sight


TEXTS = """return ["body", "a", "small", ".muted", "td.better", "figure svg text", "pre"].map(what => {
    const style = getComputedStyle(document.querySelector(what));
    return [what, what.includes("svg") ? style.fill : style.color];
}).concat([["paper", getComputedStyle(document.body).backgroundColor]])"""


def test_light_and_dark_differ_and_both_can_be_read(browser: Any, report: Path) -> None:
    papers = {}
    for theme in ("light", "dark"):
        show(browser, report, theme=theme)
        colours = dict(browser.execute_script(TEXTS))
        papers[theme] = luminance(colours["paper"])
        for what, tone in colours.items():
            assert what == "paper" or contrast(tone, colours["paper"]) >= 4.5, f"{what}, {theme}"
    assert papers["light"] > 0.9
    assert papers["dark"] < 0.05


def test_figures_have_the_pages_own_paper_and_ink_in_the_dark(browser: Any, report: Path) -> None:
    show(browser, report, theme="dark")
    paper, filled = browser.execute_script(
        """return [getComputedStyle(document.body).backgroundColor,
            [...document.querySelectorAll("figure svg > g > g:first-child > path")].map(
                path => getComputedStyle(path).fill)]"""
    )
    assert len(filled) == len(PLOTS)
    assert set(filled) == {paper}


def test_the_places_that_links_lead_to_exist(browser: Any, report: Path) -> None:
    show(browser, report)
    missing = browser.execute_script(
        """return [...document.querySelectorAll("nav a")].map(a => a.getAttribute("href"))
            .filter(place => !document.querySelector(place))"""
    )
    assert missing == []


def test_the_test_can_see_a_request_that_leaves(browser: Any, tmp_path: Path) -> None:
    """The page's policy would stop it; a page without one shows that the log holds what is asked for."""
    page = tmp_path / "asks.html"
    page.write_text('<img src="http://127.0.0.1:9/none.png">')
    browser.get_log("performance")
    browser.get(page.as_uri())
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert "http://127.0.0.1:9/none.png" in asked
    assert [entry["level"] for entry in browser.get_log("browser")] == ["SEVERE"]
