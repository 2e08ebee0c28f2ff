"""Answers of a model without any sense, held to a form: tokens at random among those that may come, for tests of forms.

Its vocabulary is the 256 bytes and a format's markers, as tokens of their own or not.
"""

import json
import random
from functools import cache
from itertools import islice

import jsonschema
import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Words

from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.formats import GRAMMARS, calls_tools, chat_parser
from moedge.runtime.constraint import Grammars
from moedge.runtime.forms.answer_form import AnswerForm, FormTool
from moedge.runtime.forms.holding import Holding
from moedge.runtime.forms.lark_rules import Marks
from moedge.runtime.text import Tokenizer

END = "<|eos|>"
MOST = 500  # tokens of an answer
CALL_FORMATS = [name for name in GRAMMARS if calls_tools(name)]
_TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
_CALLS = ("calls▁begin", "calls▁end", "call▁begin", "sep", "call▁end")
_DEEPSEEK = tuple(f"<｜tool▁{name}｜>" for name in _CALLS)
MARKERS = {
    "cohere": (
        *("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        *("<|START_TEXT|>", "<|END_TEXT|>", "<|START_ACTION|>", "<|END_ACTION|>"),
    ),
    "deepseek_v3": (*_DEEPSEEK, "<think>", "</think>"),
    "deepseek_v3_1": (*_DEEPSEEK, "<think>", "</think>"),
    "ernie": (*_TAGS, "<response>", "</response>"),
    "gemma4": ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    "glm": (*_TAGS, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    "gpt_oss": ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"),
    "granite": ("<|tool_call|>", *_TAGS),
    "hermes": _TAGS,
    "kimi_k2": (
        *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>"),
        *("<|tool_call_argument_begin|>", "<|tool_call_end|>", "<think>", "</think>"),
    ),
    "lfm2": ("<|tool_call_start|>", "<|tool_call_end|>", "<think>", "</think>"),
    "mistral": ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"),
    "plain": (),
    "qwen3_coder": _TAGS,
    "think": ("<think>", "</think>"),
}
_ENDS_TOO = {"gpt_oss": ("<|call|>", "<|return|>")}
_CLOSERS = ('"}', "}", "]", '"', "\n</parameter>\n", "</arg_value>", "<|end|><|start|>assistant", '<|"|>', "\n")


class Reader:
    """One format over one vocabulary: makes answers of a form and reads them."""

    def __init__(self, chat_format, tokens=True):
        self.chat_format = chat_format
        self.words = _tokenizer(MARKERS[chat_format] if tokens else ())
        ids = self.words.special_ids
        ends = (END, *(_ENDS_TOO.get(chat_format, ()) if tokens else ()))
        self.marks = Marks(ids, frozenset(ids[end] for end in ends))
        self.grammars = Grammars(self.words, 512, self.marks.ends)
        self.holding = Holding(chat_format, self.marks, self.grammars)
        spelled = (*MARKERS[chat_format], *_CLOSERS)
        self.spellings = [self.words.encode(text, allow_special=True) for text in spelled]
        self.spellings += [self.words.encode(text) for text in spelled]

    def grammar(self, form, prompt_end=""):
        return self.holding.hold(form, prompt_end)

    def answers(self, form, count=2, prompt_end="", tries=40, ending=0.5):
        """Texts of answers that ended by themselves, so many of them; `ending`: how likely, where they may."""
        grammar = self.grammar(form, prompt_end)
        made = (self._answer(grammar, random.Random(seed), ending) for seed in range(tries))
        texts = list(islice((text for text in made if text is not None), count))
        assert len(texts) == count, "too few answers ended"
        return texts

    def _answer(self, grammar, chance, ending):
        constraint = self.grammars.constraint(grammar)
        said, script = [], []
        while len(said) < MOST and not constraint.done:
            token_id = self._next(constraint, script, chance, ending)
            constraint.add(token_id)
            if token_id in self.marks.ends:
                return self.words.decode(said)
            said.append(token_id)
        return self.words.decode(said) if constraint.done else None

    def _next(self, constraint, script, chance, ending):
        if constraint.forced:
            return constraint.forced[0]
        allowed = constraint.allowed()
        if script and allowed[script[0]]:
            return script.pop(0)
        script.clear()
        ends = [token_id for token_id in self.marks.ends if allowed[token_id]]
        if ends and chance.random() < ending:
            return chance.choice(ends)
        if chance.random() < 0.3:
            fitting = [spelling for spelling in self.spellings if allowed[spelling[0]]]
            if fitting:
                first, *rest = chance.choice(fitting)
                script += rest
                return first
        return int(chance.choice(np.flatnonzero(allowed)))

    def read(self, text, form, prompt_end=""):
        """The message that an answer is."""
        tools = [_declared(tool) for tool in form.called]
        parser = chat_parser(self.chat_format, prompt_end, tools, bool(tools), form.excludes)
        return assistant_message([*parser.push(text), *parser.finish()])


@cache
def reader(chat_format, tokens=True):
    return Reader(chat_format, tokens)


def tool(name="f", parameters=None, strict=False):
    return FormTool(name, None if parameters is None else json.dumps(parameters), strict)


def required(*tools, most_calls=None):
    return AnswerForm(None, tools, "required", most_calls)


def check_calls(message, form):
    """Every call is of a tool, its arguments of the tool's schema; the names that were called."""
    schemas = {each.name: json.loads(each.parameters or "{}") for each in form.called}
    names = []
    for call in message.get("tool_calls", ()):
        name = call["function"]["name"]
        jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[name])
        names.append(name)
    assert form.most_calls is None or len(names) <= form.most_calls
    return names


def check_required(chat_format, form, count=2, tokens=True, prompt_end=""):
    """So many answers at random are calls and nothing else, and well made."""
    held = reader(chat_format, tokens)
    for text in held.answers(form, count, prompt_end):
        message = held.read(text, form, prompt_end)
        assert check_calls(message, form), text
        assert not message["content"].strip(), text


def _declared(each):
    parameters = {} if each.parameters is None else {"parameters": json.loads(each.parameters)}
    return {"type": "function", "function": {"name": each.name, **parameters}}


def _tokenizer(markers):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Words(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens(
        [AddedToken(mark, special=True, normalized=False) for mark in (END, "<|other|>", *markers)]
    )
    return Tokenizer(words.to_str())
