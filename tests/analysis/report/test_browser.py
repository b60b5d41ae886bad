"""The report in a real browser: what it logs, asks the network for, shows, and does when a column's name is pressed.

Without Chromium, its driver or selenium (extra ``dev``) these are skipped, unless REQUIRE_BROWSER is set.
"""

import importlib.util
import json
import os

import pytest

from analysis.report import write_page
from tests.support.browser import PLACES, chromium
from tests.support.small_run import ENTRIES, GLOSSARY, small_run

MISSING = [name for name, place in PLACES.items() if place is None]
MISSING += [] if importlib.util.find_spec("selenium") else ["selenium"]
REQUIRED = bool(os.environ.get("REQUIRE_BROWSER"))
pytestmark = [
    pytest.mark.skipif(bool(MISSING) and not REQUIRED, reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("default"),  # of selenium's own
]
PRESS = "document.querySelector('#rows-error thead tr').cells[arguments[0]].querySelector('button').click()"
COLUMN = "return [...document.querySelector('#rows-error').tBodies[0].rows].map(r => r.cells[arguments[0]].textContent)"
LOADED = "return [...document.images].map(i => i.complete && i.naturalWidth > 0)"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    out = small_run(tmp_path_factory.mktemp("run"))
    return write_page(out, ENTRIES, GLOSSARY).as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def narrow(browser, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_the_page_loads_without_an_error_or_a_request(browser, address):
    browser.get_log("performance")
    browser.get(address)
    assert browser.execute_script(LOADED) == [True, True]
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert address in asked
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(browser, address, width):
    narrow(browser, width)
    browser.get(address)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_pressing_a_column_sorts_by_number_and_then_backwards_with_gaps_last(browser, address):
    browser.get(address)
    browser.execute_script(PRESS, 2)
    assert browser.execute_script(COLUMN, 2) == ["0", "3", "10"]
    browser.execute_script(PRESS, 2)
    assert browser.execute_script(COLUMN, 2) == ["10", "3", "0"]
    browser.execute_script(PRESS, 1)
    assert browser.execute_script(COLUMN, 1) == ["−2 × 10¹⁰", "0.1235", ""]
    browser.execute_script(PRESS, 1)
    assert browser.execute_script(COLUMN, 1) == ["0.1235", "−2 × 10¹⁰", ""]
    browser.execute_script(PRESS, 0)
    assert browser.execute_script(COLUMN, 0) == ["a & <b>", "greedy", "none"]


def test_a_link_to_a_table_opens_it(browser, address):
    browser.get(address)
    shut = "return document.getElementById('table-error').open"
    assert browser.execute_script(shut) is False
    browser.execute_script("document.querySelector('a[href=\"#table-error\"]').click()")
    assert browser.execute_async_script(
        "setTimeout(() => arguments[0](document.getElementById('table-error').open), 50)"
    )


def test_pressing_a_figure_shows_it_at_its_full_size_and_again_in_the_window(browser, address):
    narrow(browser, 400)
    browser.get(address)
    browser.execute_script("document.images[0].style.width = '900px'")  # as wide as the figures of a run are
    press = "document.querySelector('.picture').click()"
    sizes = "return [document.images[0].clientWidth, document.documentElement.scrollWidth]"
    shown, page = browser.execute_script(sizes)
    assert max(shown, page) <= 400
    browser.execute_script(press)
    assert browser.execute_script(sizes) == [900, page]
    browser.execute_script(press)
    assert browser.execute_script(sizes) == [shown, page]
