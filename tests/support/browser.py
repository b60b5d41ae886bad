"""A headless Chromium that reaches no network."""

import contextlib
import shutil

OPTIONS = ["headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
OPTIONS += ["disable-component-update", "disable-sync", "force-color-profile=srgb", "hide-scrollbars"]
PLACES = {name: shutil.which(name) for name in ("chromium", "chromedriver")}


@contextlib.contextmanager
def chromium(width=1400, height=1000):
    """Yield a driver of a browser whose log of console and network is kept."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = PLACES["chromium"]
    for option in [*OPTIONS, f"window-size={width},{height}"]:
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=PLACES["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
