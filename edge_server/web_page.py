"""GET /: the chat page, one file put together from chat_page/ when this module is imported, and what holds it in.

The page asks nobody but this server, and its policy lets nothing run that is not in the file: scripts and styles are
known by their hashes.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

from flask import Response, request

from moedge.edge_server.service import Service

FOLDER = Path(__file__).with_name("chat_page")
STYLES = ("colours.css", "layout.css", "messages.css")
# In this order, as one script: each uses the names of those before it, `start.js` all of them.
SCRIPTS = (
    "words.js",
    "elements.js",
    "kept.js",
    "asking.js",
    "markdown.js",
    "inline.js",
    "mixture.js",
    "heat_map.js",
    "speaking.js",
    "messages.js",
    "conversation.js",
    "settings.js",
    "start.js",
)


# Blanks that CSS and JavaScript can do without, and the texts of a script, whose blanks stay.
CSS_BLANKS = re.compile(r"(?<=[:;,{])\s+|;?\s+(?=})|\s+(?={)")
JS_BLANKS = re.compile(r" ?([=<>?:,;{}()&|*]) ?| ([+-]) (?![+-])")
JS_TEXTS = re.compile(r"(\"[^\"]*\"|`[^`]*`)")


def _read(*names: str) -> str:
    """Files one after the other, without indents, empty lines and lines of comment."""
    text = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*"))) + "\n"


def _squeeze(line: str) -> str:
    """A line of a script without blanks around what is no word, unless it may hold a pattern, which needs its own."""
    line = line.partition(" // ")[0]
    if "/" in line or "\\" in line:
        return line
    parts = JS_TEXTS.split(line)
    return "".join(part if i % 2 else JS_BLANKS.sub(r"\1\2", part) for i, part in enumerate(parts))


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _policy(style: str, script: str) -> str:
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",  # the icon
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _assemble() -> tuple[bytes, dict[str, str]]:
    """The page in UTF-8, and its headers."""
    style = CSS_BLANKS.sub("", _read(*STYLES))
    script = '"use strict";\n{\n' + "\n".join(map(_squeeze, _read(*SCRIPTS).splitlines())) + "\n}\n"
    words = json.dumps(json.loads(_read("words.json")), ensure_ascii=False, separators=(",", ":"))
    text = _read("page.html")
    for place, part in {"STYLE": style, "WORDS": words, "SCRIPT": script}.items():
        text = text.replace(f"[[{place}]]", part)
    page = text.encode()
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _policy(style, script),
        "Cache-Control": "no-cache",  # kept, but asked for again: an update of moedge is seen at once
        "ETag": f'"{hashlib.sha256(page).hexdigest()[:32]}"',
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-write=(self)",
    }
    return page, headers


PAGE, HEADERS = _assemble()


def show_page(service: Service) -> Response:
    """The page, or 304 where the browser has it; it says itself whether `service` is loading."""
    response = Response(PAGE, headers=HEADERS)
    response.make_conditional(request)
    return response
