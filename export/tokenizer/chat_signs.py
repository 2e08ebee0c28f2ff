"""Which chat format a checkpoint's answers have: decided by what its template shows and what its vocabulary holds.

How answers are read is the runtime's matter (runtime/chat/formats/); the model's type decides nothing here, because
one architecture talks in the format of whoever trained it.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer

from moedge.runtime.manifest import ChatFormat


@dataclass(frozen=True)
class _Sign:
    """A format is spoken if the template holds all of these texts and the vocabulary all of these tokens."""

    chat_format: ChatFormat
    template: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()


# The first that fits decides. What a template shows goes before what a vocabulary holds: a model tuned for another
# format keeps the vocabulary that it began with.
_SIGNS = (
    _Sign("kimi_k2", template=("<|tool_calls_section_begin|>",)),
    _Sign("gpt_oss", template=("<|channel|>", "<|message|>")),
    _Sign("gemma4", template=("<|tool_call>call:",)),
    _Sign("cohere", template=("<|START_ACTION|>",)),
    # V3 and V3.1 share their tokens; only V3 fences arguments
    _Sign("deepseek_v3", template=("<｜tool▁sep｜>", "```json")),
    _Sign("deepseek_v3_1", template=("<｜tool▁sep｜>",)),
    _Sign("lfm2", template=("<|tool_call_start|>",)),
    _Sign("mistral", template=("[TOOL_CALLS]",)),
    # three kinds of text stand inside of <tool_call>
    _Sign("glm", template=("<tool_call>", "<arg_key>")),
    _Sign("qwen3_coder", template=("<function=", "<parameter=")),
    _Sign("granite", template=("<|start_of_role|>", "<tool_call>")),
    _Sign("granite", template=("<|tool_call|>",), vocabulary=("<|start_of_role|>",)),
    _Sign("ernie", template=("<response>", "<tool_call>")),
    _Sign("hermes", template=("<tool_call>",)),
    # templates that show tools to the model, and leave the form of calls to its training
    _Sign("kimi_k2", template=("tool_declare",), vocabulary=("<|tool_calls_section_begin|>",)),
    _Sign("lfm2", template=("tools",), vocabulary=("<|tool_call_start|>",)),
    _Sign("granite", template=("tools",), vocabulary=("<|start_of_role|>", "<|tool_call|>")),
    # those that show no calls, and thinking or a response
    _Sign("gemma4", template=("<|turn>", "<|channel>")),
    _Sign("cohere", template=("<|CHATBOT_TOKEN|>", "<|START_THINKING|>")),
    _Sign("cohere", template=("<|CHATBOT_TOKEN|>", "<|START_RESPONSE|>")),
    _Sign("think", template=("<think>",)),
    _Sign("think", template=("</think>",)),
    _Sign("plain"),
)


def detect(tokenizer: Tokenizer, template: str | None) -> ChatFormat:
    """The format of the answers to prompts of this chat template; "plain" where it shows neither thinking nor calls.

    A model without a template does not chat, and is "plain".
    """
    text = template or ""
    return next(
        sign.chat_format
        for sign in _SIGNS
        if all(part in text for part in sign.template)
        and all(tokenizer.token_to_id(token) is not None for token in sign.vocabulary)
    )
