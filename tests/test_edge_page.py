"""The chat page as a file: what it may do, what holds it in, its words. tests/page opens it in a browser."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest
from edge_client import error_of

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service
from moedge.edge_server.web_page import FOLDER, PAGE, SCRIPTS, STYLES

TEXT = PAGE.decode()
WORDS = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
SCRIPT = "\n".join(SOURCES[name] for name in SCRIPTS)


def policy_of(response):
    rules = (rule.split() for rule in response.headers["Content-Security-Policy"].split(";"))
    return {name: values for name, *values in rules}


def test_the_page_is_one_small_file_that_is_kept_and_asked_for_again(serve):
    client = serve()
    response = client.get("/")
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert response.data == PAGE
    assert len(PAGE) <= 60 << 10
    again = client.get("/", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Content-Security-Policy"] == response.headers["Content-Security-Policy"]
    assert client.head("/").status_code == 200


def test_it_answers_while_the_model_loads():
    client = create_app(Service(), Guard()).test_client()
    assert client.get("/").status_code == 200


def test_errors_stay_json(serve):
    assert error_of(serve().post("/", json={}), 405)


def test_the_policy_lets_in_what_stands_in_the_file_and_nothing_else(serve):
    response = serve().get("/")
    rules = policy_of(response)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == ["'none'"]
    assert rules["connect-src"] == ["'self'"]
    assert rules["img-src"] == ["data:"]
    scripts = re.findall(r"<script>(.*?)</script>", TEXT, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", TEXT, re.DOTALL)
    for kind, found in (("script-src", scripts), ("style-src", styles)):
        hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found]
        assert rules[kind] == [f"'sha256-{each}'" for each in hashes]
        assert len(hashes) == 1
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", TEXT.partition("<script")[0]), "they would be stopped"
    expected = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    assert {name: response.headers[name] for name in expected} == expected
    assert "camera=()" in response.headers["Permissions-Policy"]


def test_it_names_no_other_place_and_makes_no_html():
    addresses = re.findall(r"https?://[^\s\"'<>]+", TEXT)
    assert addresses == ["http://www.w3.org/2000/svg"], "the namespace of the icon, which nobody fetches"
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "import("):
        assert word not in TEXT
    assert re.findall(r'(?:src|href)="([^"]{0,5})', SOURCES["page.html"]) == ["data:", "#mess"]


def test_all_sources_are_in_it():
    assert set(SOURCES) == {*SCRIPTS, *STYLES, "words.json", "page.html"}
    assert "[[" not in TEXT.partition("<script")[0]
    for name in re.findall(r"\nfunction (\w+)|\nasync function\*? (\w+)", SCRIPT):
        assert next(filter(None, name)) in TEXT


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which reads the script here, is not installed")
def test_the_script_without_its_blanks_is_still_one(tmp_path):
    path = tmp_path / "script.js"
    path.write_text(re.findall(r"<script>(.*?)</script>", TEXT, re.DOTALL)[0], encoding="utf-8")
    done = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_languages_say_the_same_things():
    assert set(WORDS) == {"en", "fr"}
    english, french = WORDS["en"], WORDS["fr"]
    assert list(english) == list(french)
    for key, text in english.items():
        holes = [sorted(set(re.findall(r"\{\w+\}", each))) for each in (text, french[key])]
        assert holes[0] == holes[1], key
        assert text.count("|") == french[key].count("|") <= 1, key


def test_every_word_is_used_and_every_use_has_one():
    asked = set(re.findall(r'data-(?:text|label|placeholder)="(\w+)"', SOURCES["page.html"]))
    asked |= set(re.findall(r'say\("(\w+)"', SCRIPT))
    assert asked <= set(WORDS["en"]) | {"start"}
    quoted = set(re.findall(r'"(\w+)"', SCRIPT)) | asked | {"start1", "start2", "start3"}
    assert set(WORDS["en"]) <= quoted


def test_every_element_that_the_script_wants_is_there():
    wanted = set(re.findall(r'(?<!\.)\bget\("([\w-]+)"\)', SCRIPT))
    there = re.findall(r'\bid="([\w-]+)"', SOURCES["page.html"])
    assert wanted <= set(there)
    assert len(there) == len(set(there))
