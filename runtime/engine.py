"""The loaded model: program, tokenizer, template, profile and manifest of one bundle. Immutable once loaded.

It opens a bundle, hands out sessions and begins generations over them; a timeline's state is `session.py`, choosing
tokens `generation.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import detect_memory
from moedge.devices.profile import Profile, load_profile
from moedge.runtime.chat.continuation import BegunAnswer, ContinuedParser, continue_last
from moedge.runtime.chat.formats import ChatParser, chat_parser
from moedge.runtime.chat.template import ChatTemplate, read_template
from moedge.runtime.chat.thought_tags import thought_tags
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.constraint import AnswerGrammar, Grammars
from moedge.runtime.forms.answer_form import FREE, AnswerForm
from moedge.runtime.forms.holding import Holding
from moedge.runtime.forms.lark_rules import Marks
from moedge.runtime.generation import Generation, Token
from moedge.runtime.generation_config import default_params, eos_of, read_generation_config
from moedge.runtime.integrity import HashCheck, OnHashed, open_bundle, say_nothing
from moedge.runtime.kernel_probe import prove_fast_kernel
from moedge.runtime.manifest import GENERATION_NAME, TEMPLATE_NAME, TOKENIZER_NAME, Manifest
from moedge.runtime.memory_need import SESSIONS_OPTION, check_memory
from moedge.runtime.program import Program
from moedge.runtime.prompt_lookup import PromptLookup, StepCost, refuse_guesses
from moedge.runtime.prompt_too_long import PromptTooLong
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.session import Session
from moedge.runtime.settling import settle
from moedge.runtime.steps import go_back, run_step, take_step
from moedge.runtime.text import Tokenizer
from moedge.runtime.thought_limit import ThoughtBudget, ThoughtLimit

PROMPT_END = 32  # tokens: enough to spell any tag that opens thinking, and blanks after it


class Engine:
    """One bundle, loaded. Safe to share between threads; every session has a cache of its own."""

    def __init__(
        self, folder: Path, manifest: Manifest, profile: Profile, program: Program, hashes: HashCheck | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.profile = profile
        self.program = program
        self._hashes = hashes
        self.tokenizer = Tokenizer.from_file(folder / TOKENIZER_NAME)
        config = read_generation_config(folder / GENERATION_NAME)
        self.defaults = default_params(config)
        self.eos_token_ids = frozenset(manifest.model.eos_token_ids) | eos_of(config)
        self.grammars = Grammars(self.tokenizer, manifest.model.vocab_size, self.eos_token_ids)
        marks = Marks(self.tokenizer.special_ids, self.eos_token_ids)
        self.holding = Holding(manifest.model.chat_format, marks, self.grammars)
        self.step_cost = StepCost()  # learned by the answers of all sessions
        self._template = self._load_template()

    @classmethod
    def load(
        cls,
        path: str | Path,
        profile: str | Profile | None = None,
        *,
        sessions: int = 1,
        sessions_option: str = SESSIONS_OPTION,
        allow_slow: bool = False,
        allow_low_memory: bool = False,
        check_hashes: bool = True,
        on_hashed: OnHashed = say_nothing,
        hashes: HashCheck | None = None,
    ) -> "Engine":
        """Open a bundle; `profile` is a device profile, its name, or None for the machine at hand.

        `sessions` is how many will be open at once, which the user said by `sessions_option`; in the native plan they
        can be run together (`batch.py`).
        `on_hashed` is called with how far the check of the hashes is. A check that was begun elsewhere may be given as
        `hashes`: then loading does not wait for its end, but sessions keep their first logits until they are proved.
        A load that fails closes it.

        Raises MoedgeError if the bundle is damaged, if memory does not hold it with `sessions` full contexts, if this
        machine has no fast kernel for its experts (`allow_low_memory` and `allow_slow` turn these two into warnings on
        stderr), if it lacks instructions that its description states, or if onnxruntime cannot load the graph.

        Where the profile's `affinity` is "fast", this thread and those that it starts stay on the fast cores.
        """
        folder, begun = Path(path), hashes is not None
        try:
            manifest = open_bundle(folder, check_hashes=False)
            if not isinstance(profile, Profile):
                profile = load_profile(profile or "auto")
            settle(profile, manifest.experts.plan)
            check_memory(manifest, profile, detect_memory(), sessions, allow_low_memory, sessions_option)
            if check_hashes and not begun:  # last, as of hundreds of gigabytes it takes many minutes
                hashes = HashCheck(folder, manifest, on_hashed)
            engine = cls._open(folder, manifest, profile, sessions, allow_slow, hashes)
            if not begun:
                engine.prove()
        except BaseException:
            if hashes is not None:
                hashes.close()
            raise
        return engine

    @classmethod
    def _open(
        cls,
        folder: Path,
        manifest: Manifest,
        profile: Profile,
        sessions: int,
        allow_slow: bool,
        hashes: HashCheck | None,
    ) -> "Engine":
        try:
            prove_fast_kernel(folder, manifest, allow_slow=allow_slow)
            return cls(folder, manifest, profile, Program.load(folder, manifest, profile, sessions), hashes)
        except MoedgeError:
            if hashes is not None:
                hashes.wait()  # damaged weights explain it
            raise

    def prove(self) -> None:
        """Wait until the bundle is checked; MoedgeError if it is not intact."""
        if self._hashes is not None:
            self._hashes.wait()
            self._hashes = None

    @property
    def has_chat_template(self) -> bool:
        """Whether the bundle can chat; a base model only completes text."""
        return self._template is not None

    @property
    def shows_tools(self) -> bool:
        """Whether the chat template tells the model of tools; without a template nothing does."""
        return self._template is not None and self._template.shows_tools

    def session(self) -> Session:
        """A new, empty timeline."""
        return Session(self.program, self.profile.prefill_chunk, self._hashes)

    def generation(self, session: Session, token_ids: Sequence[int], params: SamplingParams) -> Generation:
        """An answer to what the session holds and `token_ids`, in the making: run what it feeds, give it the logits.

        A later generation continues an earlier one: the last sampled token, which no run has fed yet, is fed before the
        new `token_ids`. So after a stop at end-of-sequence that token is in the cache too. After a stop string the
        tokens that spell it are. MoedgeError before any work: nothing to feed, token ids outside the vocabulary, more
        tokens than the context holds.
        """
        unfed = [*([] if session.pending is None else [session.pending]), *token_ids]
        session.check(unfed)
        session.clear_interrupt()
        room = session.capacity - session.length - len(unfed)
        guesses, lookup = params.prompt_lookup_num_tokens, None
        if guesses:
            refuse_guesses(self.manifest)
            known = [*session.tokens, *unfed]
            grows = room if params.max_tokens is None else min(room, params.max_tokens)
            lookup = PromptLookup(known, guesses, grows, self.step_cost)
        return Generation(
            unfed,
            params,
            self.tokenizer.stream(),
            vocab_size=self.manifest.model.vocab_size,
            eos_token_ids=self.eos_token_ids,
            room=room,
            before=session.tokens,
            lookup=lookup,
            constraint=None if params.grammar is None else self.grammars.constraint(params.grammar),
            thought_limit=None if params.thought_budget is None else ThoughtLimit(params.thought_budget),
            library=self.program.library,
        )

    def generate(
        self, token_ids: Sequence[int], params: SamplingParams, session: Session | None = None
    ) -> Iterator[Token]:
        """The tokens of an answer to `token_ids`, in a session that goes on or in a new one; the last has a reason.

        MoedgeError at the call, as of `generation`. The iteration raises Interrupted if the session was interrupted.
        """
        session = self.session() if session is None else session
        return _tokens(session, self.generation(session, token_ids, params))

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits at every position, [n, vocab]: row i predicts token i + 1."""
        session = self.session()
        session.check(token_ids)
        logits = np.empty((len(token_ids), self.manifest.model.vocab_size), np.float32)  # [n, vocab]
        for start in range(0, len(token_ids), session.chunk):
            end = start + session.chunk
            session.run(token_ids[start:end], logits[start:end])
        return logits

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Token ids of a bare text, with what the model wants around it; PromptTooLong if they exceed the context."""
        most = self.manifest.model.context_length
        return self.tokenizer.encode(text, allow_special=allow_special, add_special_tokens=True, most=most)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of a conversation in the model's own template; special tokens come from the template only.

        `variables` are what the template reads beside the conversation, as `template_variables` gives them.
        MoedgeError if there is no template or it refuses; PromptTooLong, before much work, if they exceed the context.
        """
        return self._encode(self._chat_template().render_pieces(messages, tools, add_generation_prompt, variables))

    def encode_begun(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[list[int], BegunAnswer]:
        """Token ids of a conversation that ends within an answer, and how far that is; see `continue_last`."""
        pieces, begun = continue_last(self._chat_template(), messages, tools, variables)
        return self._encode(pieces), begun

    def _encode(self, pieces: Sequence[tuple[str, bool]]) -> list[int]:
        most, token_ids = self.manifest.model.context_length, list[int]()
        for text, trusted in pieces:
            token_ids += self.tokenizer.encode(text, allow_special=trusted, most=most)
            if len(token_ids) > most:
                raise PromptTooLong(f"at least {len(token_ids)} tokens", most)
        return token_ids

    def template_variables(self, wishes: Wishes) -> dict[str, Any]:
        """The variables for `encode_chat`, see `ChatTemplate.choose`; MoedgeError for a model without a template."""
        return {} if wishes == Wishes() else self._chat_template().choose(wishes)

    def chat_parser(
        self,
        prompt_ids: Sequence[int],
        tools: Sequence[Mapping[str, Any]] | None = None,
        begun: BegunAnswer | None = None,
        form: AnswerForm = FREE,
    ) -> ChatParser:
        """A fresh parser for the answer to one encoded prompt, which showed these tools, in this model's chat format.

        Where it showed none, no call is read: whatever looks like one is text. Many templates end prompts in `<think>`:
        the answer then begins inside of thinking, and never says so. `form` is what the answer is held to.
        """
        prompt_end = _end_of(prompt_ids, self.tokenizer) if begun is None else begun.prompt_end
        chat_format = self.manifest.model.chat_format
        parser = chat_parser(chat_format, prompt_end, tools, calls=bool(tools), apart=form.excludes)
        return parser if begun is None else ContinuedParser(parser, begun)

    def answer_grammar(self, prompt_ids: Sequence[int], form: AnswerForm) -> AnswerGrammar | None:
        """That of answers of a form to an encoded chat; see `Holding`, which says what raises."""
        return self.holding.hold(form, _end_of(prompt_ids, self.tokenizer))

    def thought_budget(self, prompt_ids: Sequence[int], tokens: int, must_call: bool = False) -> ThoughtBudget | None:
        """A budget for the thinking of answers to an encoded chat; None in chat formats that do not think."""
        tags = thought_tags(self.manifest.model.chat_format, _end_of(prompt_ids, self.tokenizer))
        if tags is None:
            return None
        cut = self.tokenizer.encode(tags.cut_to_call if must_call else tags.cut, allow_special=True)
        return ThoughtBudget(tokens, tags.opening, tags.closing, tags.opened, tuple(cut))

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise MoedgeError(f"{self.manifest.name} has no chat template: complete text instead (`moedge run --raw`).")
        return self._template

    def _load_template(self) -> ChatTemplate | None:
        source = read_template(self.folder / TEMPLATE_NAME)
        if source is None:
            return None
        facts = self.manifest.model
        bos = None if facts.bos_token_id is None else self.tokenizer.spelling(facts.bos_token_id)
        eos = self.tokenizer.spelling(facts.eos_token_ids[0]) if facts.eos_token_ids else None
        return ChatTemplate(source, self.tokenizer.special_tokens, bos_token=bos, eos_token=eos)


def _end_of(prompt_ids: Sequence[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode(prompt_ids[-PROMPT_END:])


def _tokens(session: Session, generation: Generation) -> Iterator[Token]:
    while generation.finish_reason is None:
        tokens = take_step(session, generation, run_step(session, generation))
        for shown, token in enumerate(tokens, 1):
            try:
                yield token
            except GeneratorExit:  # whoever goes on goes on after what was shown
                go_back(session, len(tokens) - shown, token.token_id)
                raise
