"""A conversation on the page: what is asked and answered, stopped, kept, refused."""

import json
import time

from selenium.webdriver.common.keys import Keys

SHAPE = ("--layers", "24", "--experts", "64", "--chosen", "6")


def test_an_answer_streams_in_with_its_figures(serve, open_page):
    url = serve(*SHAPE)
    page = open_page(url)
    page.wait("document.querySelector('#model-name').textContent === 'acme/fake-moe'")
    page.shoot("start")
    page.ask("markdown please", whole=False)
    page.wait("document.querySelector('article.answer ol')")
    page.shoot("answer-begins")
    assert page.run("document.body.classList.contains('busy')"), "it came whole"
    page.wait_for_answer()
    kinds = "strong em code ol ul table blockquote figure"
    for kind in kinds.split():
        assert page.run(f"document.querySelectorAll('article.answer .text {kind}').length"), kind
    assert page.run("document.querySelector('figure code').textContent").endswith("is wide")
    links = page.run("[...document.querySelectorAll('.answer a')].map((a) => [a.href, a.textContent, a.rel])")
    assert links == [
        ["https://example.org/moe", "the paper (example.org)", "noopener noreferrer nofollow"],
        ["https://example.org/more", "https://example.org/more", "noopener noreferrer nofollow"],
    ]
    assert "tokens/s · first after" in page[".answer .foot"]
    page.shoot("answer")
    assert page.complaints() == []
    asked = page.requests()
    assert {each.partition("?")[0].removeprefix(url) for each in asked if not each.startswith("data:")} >= {
        "",
        "experts",
        "v1/models",
        "v1/chat/completions",
    }
    assert not [each for each in asked if not each.startswith((url, "data:"))]


def test_thinking_is_open_while_it_is_written_and_folds_when_the_answer_begins(serve, open_page):
    page = open_page(serve("--step-s", "0.08", *SHAPE), dark=True)
    page.ask("think about lamps", whole=False)
    page.wait("document.querySelector('.thinking').open")
    assert page[".thinking summary"] == "Thinking…"
    page.shoot("thinking")
    page.wait_for_answer()
    assert not page.run("document.querySelector('.thinking').open")
    assert page[".thinking summary"].startswith("Thought for")
    page.press(".thinking summary")
    assert page[".thinking div"].startswith("The question is about lamps.")
    assert page[".answer > .text"] == "At night."


def test_a_call_is_shown_and_takes_its_result(serve, open_page):
    page = open_page(serve(*SHAPE))
    page.press("#open-settings")
    page.press("#tools-example")
    page.shoot("settings")
    page.press("#settings .main")
    page.ask("a lamp please")
    assert page[".call .title"] == "Calls set_light"
    assert json.loads(page[".call pre"]) == {"room": "kitchen", "on": True}
    page.press(".call textarea", "it is on")
    page.shoot("call")
    page.press(".answer button.main")
    page.wait("document.querySelectorAll('article.answer').length === 2")
    page.wait_for_answer()
    assert page["article:last-child .text:not(.thinking *)"] == "The light is on."


def test_escape_stops_and_what_was_written_stays(serve, open_page):
    page = open_page(serve(*SHAPE))
    page.ask("slowly", whole=False)
    page.wait("document.querySelector('.answer > .text').textContent.length > 20")
    page.keys(Keys.ESCAPE)
    page.wait_for_answer(2)
    assert page[".answer .note"] == "Stopped."
    words = len(page[".answer > .text"].split())
    assert 3 < words < 300
    page.driver.refresh()
    page.wait("document.querySelectorAll('article').length === 2")
    assert len(page[".answer > .text"].split()) == words, "it outlives a reload"
    assert page[".answer .note"] == "Stopped."


def test_edit_regenerate_and_new_chat(serve, open_page):
    page = open_page(serve(*SHAPE))
    page.press("#message", "one", Keys.SHIFT, Keys.ENTER, Keys.SHIFT, "two")
    assert page.run("document.querySelector('#message').value") == "one\ntwo"
    page.ask("")
    assert page["article.user .text"] == "one\ntwo"
    page.press(".answer .actions button")
    page.wait_for_answer()
    assert page.run("document.querySelectorAll('article').length") == 2
    page.press(".user .actions button")
    page.press("#message", Keys.CONTROL, "a")
    page.ask("arabic", whole=False)
    page.wait_for_answer()
    assert page.run("document.querySelectorAll('article').length") == 2
    assert page.run("getComputedStyle(document.querySelector('.answer p')).direction") == "rtl"
    page.shoot("right-to-left")
    page.press("#new")
    assert page.run("document.querySelectorAll('article').length") == 0
    assert page["#welcome"]


def test_a_failure_is_a_sentence_and_can_be_retried(serve, open_page):
    page = open_page(serve(*SHAPE))
    page.ask("please break")
    assert page[".answer > .text"] == "Half of an"
    assert page[".answer .note.bad"] == "The engine lost its place."
    page.shoot("failure")
    assert page[".answer .actions button"] == "Retry"
    page.press(".answer .actions button")
    page.wait_for_answer()
    assert page.run("document.querySelectorAll('article').length") == 2
    page.press("#new")
    page.run("(document.querySelector('#message').value = 'x'.repeat(9000))")
    page.ask("")
    assert page[".note.bad"].startswith("The conversation is longer than the model’s context")
    page.ask("hello")
    assert page["article:last-child > .text"] == "Hello there.", "what was too long is not sent again"


def test_a_lost_connection_is_told_and_can_be_retried(serve, open_page):
    url = serve(*SHAPE, fresh=True)
    page = open_page(url)
    page.ask("slowly", whole=False)
    page.wait("document.querySelector('.answer > .text').textContent.length > 20")
    serve.kill(url)
    page.wait_for_answer()
    assert page[".note.bad"] == "The connection ended before the answer did."
    assert page[".answer > .text"].startswith("word. word.")
    page.press(".answer .actions button")
    page.wait("document.querySelector('.note.bad')?.textContent === 'The server cannot be reached.'")
    page.shoot("unreachable")


def test_a_long_prompt_is_seen_to_be_read(serve, open_page):
    page = open_page(serve("--step-s", "0.15"))
    page.run("(document.querySelector('#message').value = 'hello '.repeat(200))")
    page.ask("", whole=False)
    assert page.wait("/^Reading the prompt… [1-9] s$/.test(document.querySelector('.answer .note').textContent)")
    page.shoot("reading")
    page.wait_for_answer()
    assert page[".answer > .text"] == "Hello there."


def test_settings_are_checked_kept_and_sent(serve, open_page):
    page = open_page(serve(*SHAPE))
    page.wait("document.querySelector('#shape').textContent")
    page.press("#open-settings")
    assert page.run("document.querySelector('#set-temperature').placeholder") == "0.6", "the model's own"
    page.press("#set-tools", '[{"name": "no function"}]')
    page.press("#set-temperature", "9")
    page.press("#settings .main")
    assert page["#bad-tools"] == "This is not a JSON list of tools."
    assert page["#bad-number"] == "This number is out of range."
    page.press("#set-tools", Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)
    page.press("#set-temperature", Keys.CONTROL, "a", Keys.NULL, "0.5")
    page.press("#set-maxTokens", "3")
    page.press("#set-system", "Be brief.")
    page.press("#settings .main")
    page.wait("!document.querySelector('#settings').open")
    page.driver.refresh()
    page.run(
        "(window.asked = [], window.real = fetch, window.fetch = (...all) => (asked.push(all[1]?.body), real(...all)))"
    )
    page.ask("slowly")
    assert page[".answer .note"] == "The answer reached its limit of tokens."
    body = json.loads(page.run("asked.find((each) => each)"))
    assert body == {
        "model": "acme/fake-moe",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "slowly"}],
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 3,
    }


def test_nothing_in_an_answer_does_anything(serve, open_page):
    url = serve(*SHAPE)
    page = open_page(url)
    page.ask("hostile")
    assert page.run("window.harmed") is None
    assert page.run("document.querySelectorAll('#log :is(img, script, style, svg, iframe)').length") == 0
    assert page.run("[...document.querySelectorAll('#log a')].map((a) => a.href)") == ["https://evil.example/pixel.png"]
    assert not [each for each in page.requests() if not each.startswith((url, "data:"))]
    assert page.complaints() == []
    page.run("document.querySelector('#scroll').scrollTo(0, 0)")
    page.shoot("hostile")


def test_a_line_of_a_megabyte_leaves_the_page_responsive(serve, open_page):
    page = open_page(serve("--step-s", "0.002", *SHAPE))
    page.ask("long", whole=False)
    worst = 0.0
    while page.run("document.body.classList.contains('busy')"):
        began = time.monotonic()
        page.run("document.body.offsetHeight")
        worst = max(worst, time.monotonic() - began)
    assert page.run("document.querySelector('.answer > .text').textContent.length") == 1 << 20
    print(f"worst {worst:.2f} s")
    assert worst < 3, f"it stood still for {worst:.1f} s"


def test_loading_is_told_and_waited_for(serve, open_page):
    page = open_page(serve("--load-s", "6", fresh=True), language="fr")
    page.wait("document.querySelector('#model-name').textContent.startsWith('Le modèle est en cours')")
    page.ask("bonjour", whole=False)
    page.wait("document.querySelector('.note').textContent.startsWith('Le modèle est en cours de chargement')")
    page.shoot("loading")
    page.wait_for_answer()
    assert page[".answer > .text"] == "Hello there."
    page.wait("document.querySelector('#model-name').textContent === 'acme/fake-moe'")


def test_a_key_is_asked_for_by_the_browser_and_never_kept(serve, open_page):
    url = serve("--key", "correct-horse")
    page = open_page(url.replace("//", "//:correct-horse@"))
    page.driver.get(url)  # what a browser asks once it knows for the whole site
    page.wait("document.querySelector('#model-name').textContent === 'acme/fake-moe'")
    page.ask("hello")
    assert page[".answer > .text"] == "Hello there."
    assert "correct-horse" not in page.run("JSON.stringify({...localStorage}) + document.cookie")


def test_a_browser_that_keeps_nothing_chats_all_the_same(serve, open_page):
    page = open_page("about:blank")
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } });"
    page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    page.driver.get(serve(*SHAPE))
    page.ask("hello")
    assert page[".answer > .text"] == "Hello there."
    page.press("#open-settings")
    assert "keeps nothing" in page["#kept"]
