"""The one parser of all chat formats: it walks a grammar (grammar.py) over text that is still arriving.

It never raises on what a model wrote, and only markers and layout are dropped: a marker commits to nothing until what
follows is known to be what it promised, and text that is no call in the end is delivered as it was written, where it
stood. Each character is looked at a bounded number of times, however the text is cut.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moedge.runtime.chat.delta import Content, Delta, Reasoning
from moedge.runtime.chat.grammar import At, BodyForm, Grammar, Table, WrittenCall
from moedge.runtime.chat.nest import JSON, Nest
from moedge.runtime.chat.offer import offer_of
from moedge.runtime.chat.scans import NO, HeaderScan
from moedge.runtime.chat.speech import Speech
from moedge.runtime.chat.tagged import as_json
from moedge.runtime.chat.trial import Quoted, Trial

_BLANK_SO_FAR = {
    At.START: At.CONTENT,
    At.AFTER: At.CONTENT,
    At.THOUGHT: At.THINKING,
    At.REPLY: At.RESPONSE,
    At.INSIDE: At.LOOSE,
}
_THINKING = (At.THOUGHT, At.THINKING)
_WRITTEN = re.compile(r"\S")


class GrammarParser:
    """A `ChatParser` that a grammar drives.

    A prompt that ends in an opened thought (`prompt_end`) makes the answer begin in thinking. Without `calls` none is
    read; with `tools` those alone that are declared; where calls and content stand `apart`, none behind content.
    """

    def __init__(
        self,
        grammar: Grammar,
        prompt_end: str = "",
        tools: Sequence[Mapping[str, Any]] = (),
        calls: bool = True,
        apart: bool = False,
    ) -> None:
        self._grammar = grammar
        self._offer = offer_of(tools)
        self._calls = calls
        self._apart = apart
        self._speech = Speech(grammar.joint)
        self._at = grammar.begin(prompt_end)
        self._last = ""  # received; the answer may end in it
        self._text, self._place = "", 0  # received; read up to the place
        self._hopeless = 0  # a place in the text: no call begins before it
        self._blanks: list[str] = []  # read, in a state that is blank so far
        self._trial: Trial | None = None  # holds the text, if there is one
        self._nest: Nest | None = None  # of arguments that are JSON
        self._raw = False  # arguments are none: they end at a marker

    def push(self, text: str) -> list[Delta]:
        """What is certain after this text."""
        text = self._last + text
        cut = self._grammar.turn_ends.cut(text, 0)
        self._last = text[cut:]
        return self._read(text[:cut], False)

    def finish(self) -> list[Delta]:
        """The deltas that are left."""
        text, self._last = self._last, ""
        return self._read("" if text in self._grammar.ends else text, True)

    def _read(self, text: str, last: bool) -> list[Delta]:
        self._speech.hear(text)
        trial = self._trial
        if trial is None:
            self._hopeless = max(0, self._hopeless - self._place)
            self._text, self._place = self._text[self._place :] + text, 0
        if trial is None or self._decide(trial, trial.add(text, last), last):
            while self._step(last):
                pass
        if last and self._at is At.ARGUMENTS:
            self._speech.end_arguments(broken_off=True)
        return self._speech.deliver(last)

    def _step(self, last: bool) -> bool:
        """Read up to the next marker and over it; False if more text is needed."""
        if self._at in _BLANK_SO_FAR:
            return self._step_blanks(last)
        if self._at is At.ARGUMENTS:
            return self._step_arguments(last)
        table = self._table()
        found = table.markers.find(self._text, self._place)
        self._say_to(self._end(table, found, last))
        return found is not None and self._cross(found, table, last)

    def _step_blanks(self, last: bool) -> bool:
        written = _WRITTEN.search(self._text, self._place)
        end = written.start() if written else len(self._text)
        if end > self._place:
            self._blanks.append(self._text[self._place : end])
            self._place = end
        if written is None:
            if last and self._at is At.START:
                self._leave_blanks()
            return False
        table = self._table()
        if found := table.markers.at(self._text, end):
            return self._cross(found, table, last)
        if table.markers.begins(self._text, end) and not last:
            return False
        self._leave_blanks()
        return True

    def _step_arguments(self, last: bool) -> bool:
        if self._nest is None and not self._raw:
            written = _WRITTEN.search(self._text, self._place)
            self._place = written.start() if written else len(self._text)
            if written is None:
                return False
            self._raw = written[0] not in "{["
            self._nest = None if self._raw else Nest(JSON)
        table = self._table()
        found = table.markers.find(self._text, self._place)
        end = self._end(table, found, last)
        if self._nest:
            stop = self._nest.feed(self._text, self._place, end)
            if self._nest.done:
                self._say_to(stop)
                self._enter(At.INSIDE, stop)
                return True
            if self._nest.broken:
                self._nest, self._raw = None, True
        if last and self._grammar.fence and self._text[self._place : end].strip() == self._grammar.fence.strip():
            self._place = end
        self._say_to(end)
        if found and self._nest and self._nest.in_string:
            return self._try(Trial(found[0], (Quoted(self._nest),), self._text, end), last)
        return found is not None and self._cross(found, table, last)

    def _table(self) -> Table:
        doubt = self._speech.in_doubt and self._at not in _THINKING
        return self._grammar.table(self._at, self._calls, doubt)

    def _end(self, table: Table, found: re.Match[str] | None, last: bool) -> int:
        """How far text is certain to be text."""
        if found:
            return found.start()
        return len(self._text) if last else table.markers.cut(self._text, self._place)

    def _cross(self, found: re.Match[str], table: Table, last: bool) -> bool:
        """Step over a marker, or try what it may begin; False if that needs more text."""
        lead = table.leads[found[0]]
        if not isinstance(lead, At):
            trial = Trial(found[0], lead, self._text, found.start())
            if found.start() >= self._hopeless:
                return self._try(trial, last)
            self._refuse(trial)
            return True
        if self._speech.in_doubt and found[0] in self._grammar.thought_ends:
            layout = "\n" if f"\n{found[0]}" in self._grammar.thought_ends else ""
            self._speech.take_back(len(self._text) - found.start(), layout)
        self._enter(lead, found.end())
        return True

    def _try(self, trial: Trial, last: bool) -> bool:
        return self._decide(trial, trial.ask(last), last)

    def _decide(self, trial: Trial, length: int | None, last: bool) -> bool:
        """Go on with a trial whose first form gave an answer; False if it needs more text."""
        self._trial = None
        while length is not None:
            trial.join()
            self._text, self._place, self._hopeless = trial.text, trial.start, 0
            if length != NO and self._accept(trial, trial.begin + length):
                return True
            self._hopeless = trial.begin + trial.scan.hopeless
            if not trial.drop():
                self._refuse(trial)
                return True
            length = trial.ask(last)
        self._trial = trial
        self._text, self._place, self._hopeless = "", 0, 0
        return False

    def _accept(self, trial: Trial, end: int) -> bool:
        """Read what the first form covers; False if that is not what it must be."""
        form, scan = trial.form, trial.scan
        if isinstance(form, Quoted):
            self._say_to(end)
            if form.nest.done:
                self._enter(At.INSIDE, end)
            return True
        if isinstance(form, BodyForm):
            body = form.read(trial.text[trial.begin : end])
            if body is None or body[1].strip():
                return False
            return self._make(body[0], At.INSIDE, end)
        assert isinstance(scan, HeaderScan) and scan.found is not None
        read = form.read(scan.found)
        if isinstance(read, At):
            if read is not At.AFTER:
                self._speech.open_message(Reasoning if read is At.THINKING else Content)
            self._enter(read, end)
            return True
        bare = scan.found.groupdict().get("bare") is not None
        return read is not None and self._make([read], At.INSIDE if bare else At.ARGUMENTS, end)

    def _make(self, calls: Sequence[WrittenCall], at: At, end: int) -> bool:
        """Make these calls, whose text ends at a place; False if one of them calls what was not declared."""
        names = [self._offer.name_of(call, self._grammar.counts) for call in calls]
        named = [(call, name) for call, name in zip(calls, names, strict=True) if name is not None]
        if not self._calls or len(named) < len(calls):
            return False
        if self._at in _THINKING:
            if not calls:
                at = At.THINKING
            elif self._grammar.thought_ends:
                self._speech.doubt(self._text[self._place :])
        self._end_arguments()
        for call, name in named:
            arguments = call.arguments
            if not isinstance(arguments, str):
                arguments = as_json(arguments, self._offer.types.get(name, {}), self._grammar.words)
            self._speech.call(name, call.id)
            self._speech.argue(arguments)
            if at is not At.ARGUMENTS:
                self._speech.end_arguments()
        self._enter(at, end)
        return True

    def _refuse(self, trial: Trial) -> None:
        """The marker was text; that of a string that never ended was one."""
        if isinstance(trial.form, Quoted):
            self._nest, self._raw = None, True
            return
        if self._at in _BLANK_SO_FAR:
            self._leave_blanks()
        if self._at is At.LOOSE and trial.marker in self._grammar.steps[At.LOOSE]:
            self._at = self._grammar.refused
        if self._at is At.ARGUMENTS:
            self._nest, self._raw = None, True
        elif self._grammar.unread and trial.start < self._hopeless:
            self._at = self._grammar.unread
        self._say_to(trial.start + len(trial.marker))

    def _enter(self, at: At, place: int) -> None:
        self._end_arguments()
        self._at, self._place = at, place
        self._nest, self._raw = None, False
        self._blanks.clear()

    def _end_arguments(self) -> None:
        if self._at is At.ARGUMENTS:
            self._speech.end_arguments()
            self._at = At.INSIDE

    def _leave_blanks(self) -> None:
        """Other text comes: the blanks before it belong to it, but for layout."""
        blanks = "".join(self._blanks)
        if self._at is not At.START:
            blanks = blanks[blanks.rfind("\n") + 1 :]
        self._enter(_BLANK_SO_FAR[self._at], self._place)
        self._say(blanks)

    def _say_to(self, place: int) -> None:
        self._say(self._text[self._place : place])
        self._place = place

    def _say(self, text: str) -> None:
        if self._at is At.ARGUMENTS:
            self._speech.argue(text)
        else:
            thinking = self._at in _THINKING
            self._speech.say(Reasoning if thinking else Content, text)
            if self._apart and not thinking and text and not text.isspace():
                self._calls = False
