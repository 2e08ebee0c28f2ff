"""Real English that nobody here wrote: essays, a glossary, documentation of code; to evaluate and to calibrate, apart.

Half of each is the Debian package `anarchism` (essays), a quarter `jargon-text` (a glossary), a quarter docstrings of
Python's standard library. Evaluation has three chapters, the end of the alphabet and modules from n on; calibration
other chapters, the beginning and the other modules. `apt-get download` fetches without installing.
"""

import ast
import gzip
import html
import re
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

PACKAGES = ("anarchism", "jargon-text")
HELD_CHAPTERS = {"secA3.html", "secE1.html", "secJ5.html"}
SHARES = (2, 1, 1)  # essays, glossary, docstrings


@dataclass(frozen=True)
class Texts:
    """One text a kind, in the order of SHARES."""

    evaluation: tuple[str, ...]
    calibration: tuple[str, ...]


def fetch_texts(folder: Path) -> Texts:
    """Download what is missing and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not (folder / package).exists():
            subprocess.run(["apt-get", "download", "--quiet=2", package], cwd=folder, check=True)
            [archive] = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "--extract", archive.name, package], cwd=folder, check=True)
    pages = sorted((folder / "anarchism/usr/share/doc/anarchism/html").glob("sec*.html"))
    with gzip.open(folder / "jargon-text/usr/share/doc/jargon-text/jargon.txt.gz", "rt", errors="replace") as file:
        glossary = file.read()
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    cut = len(glossary) * 7 // 10
    held = [page for page in pages if page.name in HELD_CHAPTERS]
    other = [page for page in pages if page.name not in HELD_CHAPTERS]
    return Texts(
        evaluation=(essays(held), glossary[cut + 20_000 :], docstrings(m for m in modules if m.name >= "n")),
        calibration=(
            essays(other)[:2_000_000],
            glossary[40_000:cut],
            docstrings(m for m in modules if m.name < "n"),
        ),
    )


def essays(pages: Iterable[Path]) -> str:
    """The words of HTML pages."""
    return "\n\n".join(words(page.read_text("utf-8", "replace")) for page in pages)


def words(markup: str) -> str:
    """Text without tags, a blank line where a block ends."""
    text = re.sub(r"(?s)<(script|style).*?</\1>|<!--.*?-->", "", markup)
    text = re.sub(r"(?i)</?(p|h\d|li|ul|br|blockquote)\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def docstrings(modules: Iterable[Path]) -> str:
    """Docstrings of more than 300 letters."""
    found = []
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                doc = ast.get_docstring(node) or ""
                found += [doc] if len(doc) > 300 else []
    return "\n\n".join(found)


def windows(tokenizer: Tokenizer, texts: Sequence[str], count: int, length: int) -> np.ndarray:
    """`count` windows of `length` token ids, [count, length], spread evenly over each text, in proportion to SHARES."""
    rows = []
    for text, share in zip(texts, shares(count), strict=True):
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        if share and len(ids) < length:
            raise ValueError(f"a text of {len(ids)} tokens holds no window of {length}")
        starts = np.linspace(0, len(ids) - length, share).astype(int)
        rows += [ids[start : start + length] for start in starts]
    return np.stack(rows)


def shares(count: int) -> tuple[int, ...]:
    """How many of `count` windows each text gives; the last one takes what does not divide."""
    given = [count * share // sum(SHARES) for share in SHARES[:-1]]
    return (*given, count - sum(given))
