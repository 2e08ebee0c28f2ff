"""Answers held to a form on one model: the grammar is written, and proved to be one before anything is promised."""

from functools import lru_cache

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.formats import opens_thought
from moedge.runtime.constraint import AnswerGrammar, Grammars, check_size
from moedge.runtime.forms.answer_form import AnswerForm, FormTool, UnfitTool
from moedge.runtime.forms.argument_schema import strings_under
from moedge.runtime.forms.declared import SPACED, DeclaredTool
from moedge.runtime.forms.form_grammar import write_grammar
from moedge.runtime.forms.lark_rules import Marks
from moedge.runtime.forms.patterns import check_repetitions

LARGE = 4096  # characters of a schema which may turn out to be too much when it is followed
KEPT = 16  # grammars of forms that were asked for; tools are the same in all requests of a conversation


class Holding:
    """What holds the answers of one model to forms. Any thread may ask."""

    def __init__(self, chat_format: str, marks: Marks, grammars: Grammars) -> None:
        self.grammars = grammars
        self._chat_format = chat_format
        self._marks = marks
        self._written = lru_cache(KEPT)(self._write)

    def hold(self, form: AnswerForm, prompt_end: str) -> AnswerGrammar | None:
        """The grammar of answers to a chat whose prompt ends so; None where nothing is to be held.

        UnfitTool names the tool whose schema is unfit, MoedgeError says what of the content is.
        """
        return self._written(form, opens_thought(self._chat_format, prompt_end))

    def hold_content(self, content: AnswerGrammar) -> AnswerGrammar:
        """The same, of answers that are content alone; MoedgeError if it is no grammar or cannot be followed."""
        if content.kind != "json_schema":
            check_repetitions(content.text)
        else:
            for pattern in strings_under(check_size(content.text), "pattern"):
                check_repetitions(pattern)
        self.grammars.try_out(content)
        self.grammars.constraint(content)
        return content

    def _write(self, form: AnswerForm, opened: bool) -> AnswerGrammar | None:
        grammar = write_grammar(form, self._chat_format, opened, self._marks)
        if grammar is None:
            return None
        if form.content is not None and form.calls != "required":
            self.hold_content(form.content)
        for tool in form.called:
            if len(tool.parameters or "") > LARGE:
                self._prove(tool, AnswerGrammar("lark", f"start: {DeclaredTool(tool).arguments(SPACED)}"))
        try:
            self.grammars.constraint(grammar)
        except MoedgeError:
            for tool in form.called:  # so that the one to blame is named
                alone = write_grammar(AnswerForm(None, (tool,), "required"), self._chat_format, opened, self._marks)
                assert alone is not None
                self._prove(tool, alone)
            raise
        return grammar

    def _prove(self, tool: FormTool, grammar: AnswerGrammar) -> None:
        """UnfitTool if a grammar of its calls alone is none, or cannot be followed."""
        try:
            self.grammars.try_out(grammar)
        except MoedgeError as error:
            raise UnfitTool(tool.name, str(error)) from None
