"""The chat templates that moedge brings, by name: files of our own writing in templates/. Reads no checkpoint."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "templates"


def brought_templates() -> tuple[str, ...]:
    """Their names."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.jinja")))


def read_brought(name: str) -> str:
    """The text of one of them."""
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
