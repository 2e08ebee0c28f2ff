"""Stop strings of a chat: they end an answer where they stand in what the user reads, never in thinking or a call."""

from collections.abc import Iterable

from moedge.runtime.chat.delta import Content, Delta
from moedge.runtime.text_stream import StopStrings


class VisibleStop:
    """Deltas in, deltas out; what may become a stop string is held back."""

    def __init__(self, stop: Iterable[str]) -> None:
        self._strings = StopStrings(stop)

    @property
    def found(self) -> bool:
        """Whether the answer ends here: no later delta belongs to it."""
        return self._strings.found is not None

    @property
    def string(self) -> str | None:
        """The stop string that was found."""
        return self._strings.found

    def push(self, deltas: Iterable[Delta]) -> list[Delta]:
        """The deltas up to a stop string; none after it."""
        passed: list[Delta] = []
        for delta in deltas:
            if self.found:
                break
            if not isinstance(delta, Content):  # no stop string goes on behind a call or a thought
                passed += [*self.finish(), delta]
            elif shown := self._strings.push(delta.text):
                passed.append(Content(shown))
        return passed

    def finish(self) -> list[Delta]:
        """What was held back."""
        held = self._strings.flush()
        return [Content(held)] if held else []
