"""Servers of written answers (serve_script.py) and headless Chromium that looks at their page.

The browser's tests run in an environment without moedge; MOEDGE_PYTHON is the server's Python, AXE the axe-core script
where there is one. Where Chromium or its driver is missing, all of them are skipped. SHOTS names a folder for pictures.
"""

import base64
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SCRIPT = Path(__file__).with_name("serve_script.py")
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (CHROMIUM and DRIVER):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="chromium and chromium-driver are not installed here"))


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Start a server with these options, or take the one that has them already; its base URL."""
    children: dict[tuple[str, ...], tuple[subprocess.Popen[str], str]] = {}

    def serve(*options: str, fresh: bool = False) -> str:
        known = None if fresh else children.get(options)
        if known is None:
            command = [os.environ["MOEDGE_PYTHON"], str(SCRIPT), *options]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert child.stdout is not None
            known = child, f"http://127.0.0.1:{int(child.stdout.readline())}/"
            children[(*options, str(child.pid)) if fresh else options] = known
        return known[1]

    def kill(url: str) -> None:
        next(child for child, own in children.values() if own == url).kill()

    serve.kill = kill
    yield serve
    for child, _ in children.values():
        child.send_signal(signal.SIGTERM)
        child.wait(20)
        child.stdout.close()


class Page:
    """A browser with the page open, and what a user does there."""

    def __init__(self, url: str, width: int, height: int, dark: bool, language: str, calm: bool) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (*ARGUMENTS, f"--window-size={width},{height}", f"--lang={language}"):
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"intl.accept_languages": language})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wishes = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if calm else "",
        }
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    def __getitem__(self, selector: str) -> str:
        """The text of the first element that this selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def run(self, script: str) -> object:
        return self.driver.execute_script(f"return {script}")

    def wait(self, condition: str, seconds: float = 20.0) -> object:
        end = time.monotonic() + seconds
        while not (found := self.run(condition)):
            assert time.monotonic() < end, f"{condition}: {self['main']}"
            time.sleep(0.05)
        return found

    def press(self, selector: str, *keys: str) -> None:
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        element.send_keys(*keys) if keys else element.click()

    def keys(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def ask(self, text: str, whole: bool = True) -> None:
        self.run("(window.newest = document.querySelector('article:last-child'))")
        self.press("#message", text, Keys.ENTER)
        self.wait("document.querySelector('article:last-child') !== window.newest")
        if whole:
            self.wait_for_answer()

    def wait_for_answer(self, seconds: float = 40.0) -> None:
        self.wait("!document.body.classList.contains('busy')", seconds)

    def shoot(self, name: str) -> None:
        if folder := os.environ.get("SHOTS"):
            time.sleep(0.3)
            taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            Path(folder, f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def complaints(self) -> list[str]:
        """What the console says that a user should not cause, such as what the policy stopped."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The URLs that were asked for since this was last called."""
        return [
            part.partition('"')[0]
            for entry in self.driver.get_log("performance")
            if '"Network.requestWillBeSent"' in entry["message"]
            for part in entry["message"].split('"request":', 1)[1].split('"url":"')[1:2]
        ]


@pytest.fixture
def open_page() -> Iterator[Callable[..., Page]]:
    """Open a browser on a URL, by default as wide as a desk and in English."""
    pages: list[Page] = []

    def open_page(
        url: str, width: int = 1280, height: int = 900, dark: bool = False, language: str = "en", calm: bool = False
    ) -> Page:
        pages.append(Page(url, width, height, dark, language, calm))
        return pages[-1]

    yield open_page
    for page in pages:
        page.driver.quit()
