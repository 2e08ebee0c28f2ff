"""How lines of the log look: text for people, JSON for programs. Neither shows what an exception says of its data.

The message of an exception that nobody foresaw may quote a prompt; its kind and the code that it passed do not.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)s %(message)s"


class TextLines(logging.Formatter):
    """Time, level and message; below them where an exception came from."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        told = logging.makeLogRecord({**vars(record), "exc_info": None, "exc_text": _exception(record)})
        return super().format(told)


class JsonLines(logging.Formatter):
    """One object a line: `time` in UTC, `level`, `message`; of a request its facts, of an exception `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "message": record.getMessage()}
        line |= getattr(record, "request", {})
        if (exception := _exception(record)) is not None:
            line["exception"] = exception
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr(style: LogFormat = "text", level: int = logging.INFO) -> None:
    """Show what the server says of its requests and of itself, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines(TEXT))
    logging.basicConfig(level=level, handlers=[handler])


def _exception(record: logging.LogRecord) -> str | None:
    error = record.exc_info[1] if record.exc_info else None
    return None if error is None else "\n".join(_places(error))


def _places(error: BaseException) -> list[str]:
    """Of an exception and its causes, the first one first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if before is None else _places(before)
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
    return [*lines, *(part.rstrip() for part in traceback.format_tb(error.__traceback__))]
