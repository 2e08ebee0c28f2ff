"""A marker whose meaning is open, and the text behind it that is held until one of its forms fits or none can."""

from dataclasses import dataclass, field

from moedge.runtime.chat.grammar import BodyForm, HeaderForm
from moedge.runtime.chat.nest import Nest
from moedge.runtime.chat.scans import NO, Scan


class Quoted:
    """The form of a marker within a JSON string: text, if the string ends and the JSON goes on behind it."""

    whole = True
    hopeless = 0

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self._seen = 0

    def scan(self) -> "Quoted":
        """Itself, as it is asked once."""
        return self

    def feed(self, text: str, place: int, last: bool) -> int | None:
        """Characters up to the first sign outside of the string."""
        end = self.nest.feed(text, place, len(text), one=True)
        self._seen += end - place
        if self.nest.broken:
            return NO
        if not self.nest.in_string and not self.nest.behind_string:
            return self._seen
        return NO if last else None


@dataclass
class Trial:
    """`text[start:]` begins with the marker; `forms` are those that are left, the first is being tried."""

    marker: str
    forms: tuple[HeaderForm | BodyForm | Quoted, ...]
    text: str
    start: int
    scan: Scan = field(init=False)
    pieces: list[str] = field(default_factory=list)  # that came later

    @property
    def form(self) -> HeaderForm | BodyForm | Quoted:
        """The one that is being tried."""
        return self.forms[0]

    @property
    def begin(self) -> int:
        """Where in `text` the form begins."""
        return self.start if self.form.whole else self.start + len(self.marker)

    def ask(self, last: bool) -> int | None:
        """Try the first form on all of the text."""
        self.scan = self.form.scan()
        return self.scan.feed(self.text, self.begin, last)

    def add(self, text: str, last: bool) -> int | None:
        """Go on with more text."""
        self.pieces.append(text)
        return self.scan.feed(text, 0, last)

    def join(self) -> None:
        """Put the pieces behind the text."""
        if self.pieces:
            self.text = "".join((self.text[self.start :], *self.pieces))
            self.start = 0
            self.pieces = []

    def drop(self) -> bool:
        """Give up the first form for the next; False if it is the last."""
        if len(self.forms) > 1:
            self.forms = self.forms[1:]
            return True
        return False
