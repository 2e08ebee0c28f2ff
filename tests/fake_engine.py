"""An engine without a model: it says what a test wrote down, as fast or slowly as the test wants. No ONNX, no files."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.format import ChatParser, chat_parser
from moedge.runtime.chat.template import ChatTemplate
from moedge.runtime.generation import Token
from moedge.runtime.manifest import SCHEMA_VERSION, ExpertKernel, Manifest, ModelFacts
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.session import Interrupted

TEMPLATE = (
    "{% if tools %}<|tools|>{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.id }}]{{ c.function.arguments }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|tools|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
VOCAB_SIZE = 0x110000  # a token is a character, or a special one beyond them


class FakeTokenizer:
    """A token a character; nothing is special, so a prompt can be read back."""

    def encode(self, text: str, allow_special: bool = False, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))


class FakeSession:
    """Prefills `chunk` tokens a step, then says the engine's script, one text a token."""

    def __init__(self, engine: "FakeEngine") -> None:
        self.engine = engine
        self.tokens: list[int] = []
        self._interrupted = threading.Event()

    @property
    def length(self) -> int:
        return len(self.tokens)

    def resume(self, token_ids: Sequence[int]) -> list[int]:
        common = 0
        while common < min(self.length, len(token_ids) - 1) and self.tokens[common] == token_ids[common]:
            common += 1
        del self.tokens[common:]
        return list(token_ids[common:])

    def interrupt(self) -> None:
        self._interrupted.set()

    def steps(self, token_ids: Sequence[int], params: SamplingParams) -> Iterator[Token | None]:
        self._interrupted.clear()
        return self._steps(list(token_ids), params)

    def _steps(self, token_ids: list[int], params: SamplingParams) -> Iterator[Token | None]:
        engine = self.engine
        engine.params.append(params)
        chunks = range(0, len(token_ids), engine.chunk)
        for start in chunks:
            if start:
                yield None
            self._work()
            self.tokens += token_ids[start : start + engine.chunk]
        texts = engine.answer(engine.tokenizer.decode(self.tokens))
        most = params.max_tokens or engine.manifest.model.context_length
        for n, text in enumerate(texts, start=1):
            if n > 1:
                self._work()
            if isinstance(text, Exception):
                raise text
            full = n >= most and n < len(texts)
            self.tokens.append(0)
            yield Token(0, text, "length" if full else "stop" if n == len(texts) else None, -0.5)
            if full:
                return

    def _work(self) -> None:
        self.engine.log.append((id(self), time.monotonic()))
        self.engine.gate.wait(30)
        if self._interrupted.wait(self.engine.step_seconds):
            raise Interrupted


class FakeEngine:
    """`answer`: from the prompt's text to the texts of the tokens; an exception among them is raised there.

    `gate`: while it is cleared, no step ends. `params` and `log` tell what was asked and when which session worked.
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
    ) -> None:
        self.answer = answer or (lambda prompt: ["Hel", "lo", "!"])
        self.step_seconds = step_seconds
        self.chunk = chunk
        self.gate = threading.Event()
        self.gate.set()
        self.params: list[SamplingParams] = []
        self.log: list[tuple[int, float]] = []
        self.sessions: list[FakeSession] = []
        self.tokenizer = FakeTokenizer()
        self.defaults = SamplingParams(temperature=0.6)
        self.manifest = _manifest(chat_format, context_length)
        self.has_chat_template = True
        self._template = ChatTemplate(template, SPECIAL)

    def session(self) -> FakeSession:
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]

    def encode_chat(self, messages, tools=None, add_generation_prompt=True) -> list[int]:
        return self.tokenizer.encode(self._template.render(messages, tools, add_generation_prompt))

    def chat_parser(self, prompt_ids: Sequence[int], tools=None) -> ChatParser:
        return chat_parser(self.manifest.model.chat_format, self.tokenizer.decode(prompt_ids[-16:]), tools)


class MidwayError(MoedgeError):
    """A failure in mid-generation."""


def _manifest(chat_format: str, context_length: int) -> Manifest:
    facts = ModelFacts(
        model_type="fake",
        hidden_size=8,
        vocab_size=VOCAB_SIZE,
        num_hidden_layers=1,
        moe_layers=1,
        num_experts=2,
        num_experts_per_tok=1,
        total_parameters=1,
        active_parameters=1,
        context_length=context_length,
        eos_token_ids=(0,),
        bos_token_id=None,
        chat_format=chat_format,
    )
    kernel = ExpertKernel("fused", 4, 32, False)
    return Manifest(SCHEMA_VERSION, "acme/fake-moe", "int4", kernel, facts, (), (), {}, {})
