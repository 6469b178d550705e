"""A headless Chromium for tests of pages: what it asked for, and what its console said.

Import the fixture `browser`. Where Chromium and its driver are not installed its tests are skipped,
and in continuous integration (`CI=true`) they fail: `.ci/run` installs both.
"""

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_PROGRAMS = ("chromium", "chromedriver")  # as Debian calls them
_SECONDS = 60


class Browser:
    """A browser, with what a test asks of it.

    Attributes:
        driver: selenium's, for everything else.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        """Takes a browser that runs."""
        self.driver = driver

    def open(
        self, address: str, *, width: int = 1100, height: int = 900, dark: bool = False
    ) -> None:
        """Opens a page, forgetting what was asked and said before.

        Args:
            address: of the page; `file://` too.
            width: of what is seen, in CSS pixels; also less than a window can be made.
            height: likewise.
            dark: whether the reader prefers dark colors.
        """
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # With reduced motion nothing scrolls slowly, so that nothing moves under a pointer.
        wishes = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce",
        }
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.requests()
        self.console()
        self.driver.get(address)

    def run(self, script: str, *values: Any) -> Any:
        """Returns what a script returns, `arguments[0]` being the first value."""
        return self.driver.execute_script(script, *values)

    def text(self, selector: str) -> str:
        """Returns the text of an element, as it is shown."""
        return self.driver.find_element("css selector", selector).text

    def wait(self, script: str, seconds: float = _SECONDS) -> Any:
        """Returns what a script returns, once that is true.

        Args:
            script: a JavaScript expression.
            seconds: that it may take.
        """
        message = f"not true after {seconds} s: {script}"
        return WebDriverWait(self.driver, seconds, 0.05).until(
            lambda _: self.run(f"return {script}"), message
        )

    def click(self, node: WebElement) -> None:
        """Clicks in the middle of an element, brought to the middle of the window.

        Args:
            node: the element; it has to stay where it is for two frames.
        """
        self.run("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", node)
        moved = """
            const [node, done] = arguments;
            const place = () => JSON.stringify(node.getBoundingClientRect());
            const before = place();
            requestAnimationFrame(() => requestAnimationFrame(() => done(place() !== before)));
            """
        WebDriverWait(self.driver, _SECONDS, 0.05).until_not(
            lambda _: self.driver.execute_async_script(moved, node), "the element keeps moving"
        )
        node.click()

    def layout_shift(self) -> float:
        """Returns how far the content of the page has moved by itself since it was opened.

        Returns:
            The sum of the browser's layout shift scores: moved part of the window times distance.
        """
        return self.driver.execute_async_script(
            """
            const done = arguments[0];
            let moved = 0;
            const add = (list) => list.getEntries().forEach((entry) => { moved += entry.value; });
            new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
            setTimeout(() => done(moved), 100);
            """
        )

    def requests(self) -> list[str]:
        """Returns the addresses that were asked for since the last call or page; not `blob:`."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [url for url in found if urlsplit(url).scheme not in ("about", "blob", "data")]

    def console(self) -> list[str]:
        """Returns the warnings and errors that the console got since the last call or page."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def screenshot(self, path: os.PathLike) -> None:
        """Writes the whole page, its length included, as PNG."""
        height = self.run("return Math.ceil(document.documentElement.scrollHeight)")
        width = self.run("return window.innerWidth")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.save_screenshot(os.fspath(path))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a module."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which Chromium refuses to make for root
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "WARNING"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
