"""How the page looks and reads: the map, narrow screens, two languages, keyboard, and axe's rules."""

import os
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

SHAPE = ("--layers", "24", "--experts", "64", "--chosen", "6")
LARGE = ("--layers", "94", "--experts", "512", "--chosen", "8")
BRIGHTEST = """(() => {
  const map = document.querySelector('#map');
  const data = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
  return data.reduce((sum, each, i) => sum + (i % 4 === 3 ? 0 : each), 0) / data.length;
})()"""


def settle(page):
    page.wait("document.querySelector('#shape').textContent")


@pytest.mark.parametrize("shape", [("--layers", "4", "--experts", "8"), SHAPE, LARGE], ids=["4x8", "24x64", "94x512"])
def test_the_map_lights_up_and_fades(serve, open_page, shape):
    page = open_page(serve(*shape), dark=True)
    settle(page)
    time.sleep(0.3)
    before = page.run(BRIGHTEST)
    page.ask("slowly", whole=False)
    time.sleep(2.5)
    page.shoot(f"map-{shape[1]}x{shape[3]}")
    lit = page.run(BRIGHTEST)
    assert lit > 1.2 * before
    assert "tokens used" in page["#used"]
    page.press("#map", Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert page["#cell"].startswith("Layer 2, expert 1: ")
    assert " of the last " in page["#cell"]
    page.keys(Keys.ESCAPE)
    page.wait_for_answer()
    time.sleep(4)
    assert page.run(BRIGHTEST) < lit, "it fades"
    assert "experts" in page.run("document.querySelector('#map').getAttribute('aria-label')")
    page.shoot(f"map-{shape[1]}x{shape[3]}-after")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--experts", "0"), "No map: this model has no experts."),
        (("--plan", "if"), "No map: only bundles of the native plan count their experts."),
    ],
)
def test_without_counts_a_line_says_why(serve, open_page, options, line):
    page = open_page(serve(*options))
    settle(page)
    assert page["#shape"] == line
    assert not page.run("document.querySelector('#map').checkVisibility()")
    assert "Memory" in page["#facts"]


def test_it_fits_a_phone(serve, open_page):
    page = open_page(serve(*SHAPE), width=360, height=740)
    settle(page)
    page.shoot("phone-start")
    page.ask("markdown", whole=False)
    time.sleep(1)
    page.shoot("phone-answer")
    page.wait_for_answer()
    page.ask("a lamp")
    assert page.run("document.scrollingElement.scrollWidth") == 360
    assert page.run("document.querySelector('#scroll').scrollWidth") <= 360
    shown = "[...document.querySelectorAll('header button, #send')].filter((b) => b.checkVisibility())"
    sizes = page.run(f"{shown}.map((b) => b.getBoundingClientRect().height)")
    assert min(sizes) >= 24
    page.press("#show-map")
    assert not page.run("document.querySelector('#side').checkVisibility()")


def test_languages_and_theme_are_chosen_and_kept(serve, open_page):
    page = open_page(serve(*SHAPE), language="fr")
    settle(page)
    assert page["#welcome h2"] == "Que voulez-vous savoir ?"
    assert page.run("document.documentElement.lang") == "fr"
    page.ask("markdown")
    assert "jetons/s · premier après" in page[".answer .foot"]
    page.shoot("french")
    page.press("#theme")
    assert page.run("document.documentElement.dataset.theme") == "dark"
    page.press("#language")
    assert "tokens/s · first after" in page[".answer .foot"]
    page.driver.refresh()
    settle(page)
    assert page.run("[document.documentElement.lang, document.documentElement.dataset.theme]") == ["en", "dark"]
    page.press("#theme")
    assert page.run("document.documentElement.dataset.theme") is None, "as the system again"


def test_the_keyboard_reaches_everything(serve, open_page):
    page = open_page(serve(*SHAPE))
    settle(page)
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(16):
        page.keys(Keys.TAB)
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))
        outlined = "getComputedStyle(document.activeElement)"
        if reached[-1] not in ("message", "BODY", "HTML"):
            assert page.run(f"{outlined}.outlineStyle") != "none", reached[-1]
    assert {"skip", "new", "language", "theme", "open-settings", "map", "message", "send"} <= set(reached)


def test_sentences_are_spoken_rather_than_tokens(serve, open_page):
    page = open_page(serve("--step-s", "0.08"))
    page.ask("think")
    spoken = page.run("[...document.querySelectorAll('#spoken p')].map((p) => p.textContent)")
    assert spoken[-2:] == ["At night.", spoken[-1]]
    assert spoken[-1].startswith("The answer is complete: ")


def test_who_asked_for_calm_gets_no_motion(serve, open_page):
    page = open_page(serve(*SHAPE), calm=True)
    page.ask("slowly", whole=False)
    time.sleep(1.5)
    page.keys(Keys.ESCAPE)
    page.wait_for_answer()
    time.sleep(1.5)
    then = page.run(BRIGHTEST)
    time.sleep(2)
    assert page.run(BRIGHTEST) == then
    assert page.run("document.getAnimations().length") == 0


@pytest.mark.skipif("AXE" not in os.environ, reason="axe-core is not installed: npm is missing, or had no network")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(serve, open_page, dark):
    page = open_page(serve(*SHAPE), dark=dark)
    settle(page)
    script = Path(os.environ["AXE"]).read_text(encoding="utf-8")

    def found():
        page.driver.execute_script(script)
        report = page.driver.execute_async_script("axe.run(document).then(arguments[0])")
        return [(each["id"], [node["target"] for node in each["nodes"]]) for each in report["violations"]]

    assert found() == []
    page.press("#open-settings")
    page.press("#tools-example")
    assert found() == []
    page.press("#settings .main")
    for text in ("markdown", "think", "a lamp", "break"):
        page.ask(text)
        assert found() == [], text
