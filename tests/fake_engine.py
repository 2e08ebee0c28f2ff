"""An engine without a model: it says what a test wrote down, as fast or slowly as the test wants. No ONNX, no files.

Its sessions and generations are the real ones, over a program and a tokenizer that are scripts.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile, load_profile
from moedge.runtime.cache import Arena, Cache
from moedge.runtime.chat.continuation import BegunAnswer, continue_last
from moedge.runtime.chat.formats import ChatParser
from moedge.runtime.chat.template import ChatTemplate
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.engine import Engine
from moedge.runtime.feed import Segment
from moedge.runtime.forms.answer_form import FREE, AnswerForm
from moedge.runtime.generation import Generation
from moedge.runtime.manifest import SCHEMA_VERSION, CacheTensor, ExpertKernel, Manifest, ModelFacts
from moedge.runtime.program import Interrupted
from moedge.runtime.prompt_lookup import StepCost
from moedge.runtime.prompt_too_long import PromptTooLong
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.session import Session
from moedge.runtime.thought_limit import ThoughtBudget

TEMPLATE = (
    "{% if tools %}<|tools|>{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.id }}]{{ c.function.arguments }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|tools|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
CACHE = (CacheTensor("past", "present", "rows", (1,)),)  # of each token its number
END, FIRST_WORD, VOCAB_SIZE = 0, 0x3000, 0x4000  # between them a token is a character, then words of the scripts


class FakeTokenizer:
    """A token a character; nothing is special, so a prompt can be read back. What the model says are words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def encode(self, text: str, allow_special=False, add_special_tokens=False, most: int | None = None) -> list[int]:
        if most is not None and len(text) > most:
            raise PromptTooLong(f"{len(text)} tokens", most)
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(self.spelling, token_ids))

    def spelling(self, token_id: int) -> str:
        return chr(token_id) if token_id < FIRST_WORD else self.words[token_id - FIRST_WORD]

    def word(self, text: str) -> int:
        """The token that is said for a text of a script."""
        if text not in self.words:
            self.words.append(text)
        return FIRST_WORD + self.words.index(text)

    def stream(self) -> "FakeTokenizer":
        """Its own detokenizer: no text depends on what stands beside it."""
        return self

    def push(self, token_id: int) -> str:
        return self.spelling(token_id)

    def flush(self) -> str:
        return ""

    def token_bytes(self, token_id: int) -> bytes:
        return self.spelling(token_id).encode()

    def bytes_in_text(self, token_id: int, text: str) -> bytes:
        return self.token_bytes(token_id)


class FakeLane:
    """The tokens that ran, and the logits after the last."""

    def __init__(self, cache: Cache | None = None) -> None:
        self.rows = cache.rows if cache else []
        self.tokens: list[int] = []
        self.logits = np.zeros((1, VOCAB_SIZE), np.float32)
        self.interrupted = threading.Event()
        self.interrupt = self.interrupted.set
        self.clear_interrupt = self.interrupted.clear


class FakeProgram:
    """After a prompt comes the first word of its script, after n words the next, after the last the end."""

    cut_unit, pace = 1, None

    vocab_size = VOCAB_SIZE
    rotary_switch = 0
    library = None
    expert_counts = None

    def __init__(self, engine: "FakeEngine", context_length: int) -> None:
        self.context_length = context_length
        self.batches = engine.slots > 0
        self._engine = engine
        self._arena = Arena(CACHE, context_length, "float32", engine.slots)
        self._lanes: dict[tuple[Arena, int], FakeLane] = {}

    def open_cache(self) -> Cache:
        if not self.batches:
            return Cache(CACHE, self.context_length, "float32")
        if not self._arena.free:
            self._arena = Arena(CACHE, self.context_length, "float32", self._engine.slots)
        return Cache(CACHE, self.context_length, "float32", self._arena)

    def open_lane(self, cache: Cache) -> FakeLane:
        lane = FakeLane(cache)
        self._lanes[cache.arena, cache.slot] = lane
        return lane

    def open_road(self) -> FakeLane:
        return FakeLane()

    def run(self, lane: FakeLane, token_ids: Sequence[int], past: int, logits: np.ndarray | None = None) -> None:
        self._wait(lane, [(id(lane), len(token_ids))])
        self._say(lane, token_ids, past, lane.logits if logits is None else logits)

    def run_segments(self, road: FakeLane, arena: Arena, segments: Sequence[Segment], logits: np.ndarray) -> None:
        lanes = [self._lanes[arena, segment.slot] for segment in segments]
        self._wait(road, [(id(lane), len(segment.token_ids)) for lane, segment in zip(lanes, segments, strict=True)])
        begin = 0
        for lane, segment in zip(lanes, segments, strict=True):
            end = begin + segment.wanted
            self._say(lane, segment.token_ids, segment.past, logits[begin:end])
            begin = end

    def _wait(self, way: FakeLane, ran: list[tuple[int, int]]) -> None:
        engine = self._engine
        now = time.monotonic()
        engine.log += [(lane, now) for lane, _ in ran]
        engine.runs.append(dict(ran))
        engine.gate.wait(30)
        if way.interrupted.wait(engine.step_seconds):
            way.interrupted.clear()
            raise Interrupted

    def _say(self, lane: FakeLane, token_ids: Sequence[int], past: int, rows: np.ndarray) -> None:
        [(_, buffer)] = lane.rows
        buffer.rows(past, past + len(token_ids))[:, 0] = token_ids
        lane.tokens = buffer.rows(0, past + len(token_ids))[:, 0].astype(int).tolist()
        rows[:] = 0
        for row, end in zip(rows, range(len(lane.tokens) - len(rows) + 1, len(lane.tokens) + 1), strict=True):
            row[self._next(lane.tokens[:end])] = 1000

    def _next(self, tokens: list[int]) -> int:
        engine, said = self._engine, 0
        while said < len(tokens) and tokens[-1 - said] >= FIRST_WORD:
            said += 1
        script = engine.answer(engine.tokenizer.decode(tokens[: len(tokens) - said]))
        text = script[said] if said < len(script) else None
        if isinstance(text, Exception):
            raise text
        return END if text is None else engine.tokenizer.word(text)


class FakeEngine:
    """`answer`: from the prompt's text to the texts of the tokens; an exception among them is raised there.

    `gate`: while it is cleared, no step ends. `params` and `log` tell what was asked and when which session worked,
    `runs` how many tokens of each lane every run had. With `slots`, so many sessions can be run together.
    """

    def __init__(
        self,
        answer: Callable[[str], Sequence[str | Exception]] | None = None,
        *,
        chat_format: str = "kimi_k2",
        step_seconds: float = 0.0,
        chunk: int = 4096,
        context_length: int = 4096,
        template: str = TEMPLATE,
        slots: int = 0,
    ) -> None:
        self.answer = answer or (lambda prompt: ["Hel", "lo", "!"])
        self.step_seconds = step_seconds
        self.chunk = chunk
        self.slots = slots
        self.gate = threading.Event()
        self.gate.set()
        self.params: list[SamplingParams] = []
        self.log: list[tuple[int, float]] = []
        self.runs: list[dict[int, int]] = []
        self.sessions: list[Session] = []
        self.tokenizer = FakeTokenizer()
        self.defaults = SamplingParams(temperature=0.6)
        self.manifest = _manifest(chat_format, context_length)
        self.profile = _profile()
        self.folder = Path("nowhere")
        self.program = FakeProgram(self, context_length)
        self.eos_token_ids = frozenset({END})
        self.step_cost = StepCost()
        self.has_chat_template = self.shows_tools = True
        self._template = ChatTemplate(template, SPECIAL)

    def session(self) -> Session:
        self.sessions.append(Session(self.program, self.chunk))
        return self.sessions[-1]

    def generation(self, session: Session, token_ids: Sequence[int], params: SamplingParams) -> Generation:
        self.params.append(params)
        return Engine.generation(self, session, token_ids, params)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def encode_chat(self, messages, tools=None, add_generation_prompt=True, variables=None) -> list[int]:
        text = self._template.render(messages, tools, add_generation_prompt, variables)
        return self.tokenizer.encode(text, most=self.manifest.model.context_length)

    def template_variables(self, wishes: Wishes) -> dict[str, object]:
        return {} if wishes == Wishes() else self._template.choose(wishes)

    def encode_begun(self, messages, tools=None, variables=None) -> tuple[list[int], BegunAnswer]:
        pieces, begun = continue_last(self._template, messages, tools, variables)
        return self.tokenizer.encode("".join(text for text, _ in pieces)), begun

    def chat_parser(self, prompt_ids: Sequence[int], tools=None, begun=None, form=FREE) -> ChatParser:
        return Engine.chat_parser(self, prompt_ids, tools, begun, form)

    def thought_budget(self, prompt_ids: Sequence[int], tokens: int, must_call=False) -> ThoughtBudget | None:
        return Engine.thought_budget(self, prompt_ids, tokens, must_call)

    def answer_grammar(self, prompt_ids: Sequence[int], form: AnswerForm) -> AnswerGrammar | None:
        return None  # it says what its script says


class MidwayError(MoedgeError):
    """A failure in mid-generation."""


@cache
def _profile() -> Profile:
    return load_profile("auto")


def _manifest(chat_format: str, context_length: int) -> Manifest:
    facts = ModelFacts(
        model_type="fake",
        hidden_size=8,
        vocab_size=VOCAB_SIZE,
        num_hidden_layers=1,
        num_attention_heads=1,
        moe_layers=1,
        num_experts=2,
        num_experts_per_tok=1,
        total_parameters=1,
        active_parameters=1,
        context_length=context_length,
        eos_token_ids=(END,),
        bos_token_id=None,
        chat_format=chat_format,
    )
    kernel = ExpertKernel("fused", 4, 32, False)
    return Manifest(SCHEMA_VERSION, "acme/fake-moe", "int4", kernel, facts, (), (), {}, {})
