"""Bodies of requests to the chat and completion endpoints, with the bounds that the readers hold them to."""

from moedge.edge_server.foreign_fields import HARMLESS, NEUTRAL, NOTES
from moedge.edge_server.messages import MAX_MESSAGES, MAX_TEXT, MAX_TOOLS, NAME, ROLES, THOUGHTS
from moedge.edge_server.openapi.json_schemas import (
    ANYTHING,
    FLAG,
    OBJECT,
    JsonSchema,
    any_of,
    items,
    maybe,
    nullable,
    number,
    one,
    record,
    reference,
    text,
    values,
    whole,
    within,
)
from moedge.edge_server.response_format import MOST_CHOICES
from moedge.edge_server.sampling_fields import (
    BOUNDS,
    MAX_BIAS,
    MAX_STOP,
    MAX_STOP_BYTES,
    MAX_TOKENS,
    MOST_ANSWERS,
    MOST_LOGPROBS,
    REPETITION_ALIAS,
)
from moedge.edge_server.template_fields import BUDGETS
from moedge.edge_server.tool_choice import MODES
from moedge.edge_server.wire import MOST_PROMPTS
from moedge.runtime.chat.wishes import EFFORTS, MAX_VARIABLES
from moedge.runtime.constraint import MOST_CHARACTERS
from moedge.runtime.sampling import MOST_GUESSES

NOTED = dict.fromkeys(sorted(NOTES), ANYTHING)  # clients send back what they received, with notes of their own
LENGTH = any_of(whole(1, MAX_TOKENS), one(-1))
FORM = text(MOST_CHARACTERS, minLength=1)


def sampling() -> dict[str, JsonSchema]:
    """How to sample."""
    named = {name: within(bounds) for name, bounds in BOUNDS.items()}
    return {
        **named,
        "top_k": whole(-1, int(BOUNDS["top_k"].high), description="-1 and 0 are off."),
        REPETITION_ALIAS: named["repetition_penalty"],
        "logit_bias": record({}, more=True, propertyNames={"pattern": "^[0-9]{1,9}$"}, maxProperties=MAX_BIAS)
        | {"additionalProperties": maybe(number(-100, 100))},
        "seed": whole(-(1 << 63), (1 << 64) - 1),
        "stop": any_of(text(MAX_STOP_BYTES, minLength=1), items(text(MAX_STOP_BYTES, minLength=1), MAX_STOP)),
        "max_tokens": LENGTH,
        "prompt_lookup_num_tokens": whole(0, MOST_GUESSES, description="Tokens that may be guessed in a step."),
        "n": whole(1, MOST_ANSWERS),
        "stream": FLAG,
        "stream_options": record(
            nullable({"include_usage": FLAG, "include_obfuscation": ANYTHING}), description="What a stream ends with."
        ),
    }


def forms() -> dict[str, JsonSchema]:
    """What form the answer must have; at most one of these."""
    schema = any_of(OBJECT, FORM)
    choice = items(text(minLength=1), MOST_CHOICES)
    return {
        "response_format": {
            "oneOf": [
                record({"type": one("text")}, ["type"]),
                record({"type": one("json_object"), **nullable({"schema": OBJECT})}, ["type"]),
                record(
                    {
                        "type": one("json_schema"),
                        "json_schema": record(
                            {"schema": OBJECT, **dict.fromkeys(("name", "description", "strict"), ANYTHING)},
                            ["schema"],
                        ),
                    },
                    ["type", "json_schema"],
                ),
                record({"type": one("regex"), "regex": FORM}, ["type", "regex"]),
                record({"type": one("regex"), "pattern": FORM}, ["type", "pattern"]),
                record({"type": one("grammar"), "grammar": FORM}, ["type", "grammar"]),
            ]
        },
        "guided_json": schema,
        "guided_regex": FORM,
        "guided_choice": choice,
        "guided_grammar": FORM,
        "structured_outputs": record(
            nullable({"json": schema, "regex": FORM, "choice": choice, "grammar": FORM, "json_object": FLAG}),
            maxProperties=1,
        ),
        "json_schema": schema,
        "grammar": FORM,
    }


def foreign() -> dict[str, JsonSchema]:
    """Fields of other servers: any value where it changes nothing, else the values that say what is so anyway."""
    return {
        **dict.fromkeys(sorted(HARMLESS), ANYTHING),
        **{name: values(*accepted) for name, accepted in sorted(NEUTRAL.items())},
    }


def templates() -> dict[str, JsonSchema]:
    """What a chat says to the template, and how long the model may think."""
    return {
        "reasoning_effort": values(*EFFORTS),
        "chat_template_kwargs": {
            **OBJECT,
            "maxProperties": MAX_VARIABLES,
            "description": "Variables that the model's own template reads.",
        },
        **{name: whole(-1, MAX_TOKENS, description="Tokens of thinking; -1: any.") for name in BUDGETS},
        "reasoning": record(
            nullable(
                {
                    "max_tokens": whole(0, MAX_TOKENS),
                    "effort": values(*EFFORTS),
                    "exclude": values(False),
                    "enabled": FLAG,
                }
            )
        ),
    }


def tools() -> dict[str, JsonSchema]:
    """Functions, and which of them may be called."""
    named = record({"name": text(64)}, ["name"])
    one_function = record({"type": one("function"), "function": named}, ["type", "function"])
    allowed = record({"mode": values("auto", "required"), "tools": items(one_function, MAX_TOOLS)}, ["mode", "tools"])
    return {
        "tools": items(reference("Tool"), MAX_TOOLS),
        "tool_choice": any_of(
            values(*MODES),
            one_function,
            record({"type": one("allowed_tools"), "allowed_tools": allowed}, ["type", "allowed_tools"]),
        ),
        "parallel_tool_calls": FLAG,
    }


def tool() -> JsonSchema:
    """A function that the model may call."""
    parameters = {**OBJECT, "description": "A JSON Schema of an object."}
    function = {"name": text(64, pattern=f"^{NAME.pattern}$"), **nullable({"description": text(), "strict": FLAG})}
    return record(
        {
            "type": values("function", None),
            "function": record({**function, "parameters": maybe(parameters)}, ["name"]),
            **NOTED,
        },
        ["function"],
    )


def messages() -> JsonSchema:
    """A conversation."""
    return items(reference("Message"), MAX_MESSAGES, least=1)


def message() -> JsonSchema:
    """One turn, whose fields depend on who speaks."""
    words = record({**NOTED, "type": values("text", None), "text": text(MAX_TEXT)}, ["text"])
    part = any_of(
        words,
        record(
            {
                **NOTED,
                "type": values("thinking", None),
                "thinking": text(),
                "signature": ANYTHING,
                "closed": ANYTHING,
            },
            ["thinking"],
        ),
    )
    call = record(
        {
            **NOTED,
            "type": values("function", None),
            "id": text(256),
            "function": record(
                {**NOTED, "name": text(256), "arguments": any_of(text(MAX_TEXT), OBJECT, {"type": "null"})},
                ["name"],
            ),
        },
        ["id", "function"],
    )
    shared = {**NOTED, **nullable({"name": text(64)})}
    said = any_of(text(), items(words))
    asks = [role for role in ROLES if role not in ("assistant", "tool")]
    return {
        "oneOf": [
            record(
                {**shared, "role": values(*asks), "content": said, "tool_calls": values([], None)}, ["role", "content"]
            ),
            record(
                {
                    **shared,
                    "role": one("assistant"),
                    "content": any_of(text(), items(part), {"type": "null"}),
                    **nullable({name: text(MAX_TEXT) for name in THOUGHTS}),
                    "tool_calls": maybe(items(call, MAX_TOOLS)),
                    **{name: {"type": "null"} for name in ("refusal", "audio", "function_call")},
                },
                ["role"],
            ),
            record(
                {
                    **shared,
                    "role": one("tool"),
                    "content": any_of(said, {"type": "null"}),
                    "tool_call_id": text(256),
                    "tool_calls": values([], None),
                },
                ["role", "tool_call_id"],
            ),
        ]
    }


def chat_request() -> JsonSchema:
    """POST /v1/chat/completions."""
    own = {
        "model": text(256),
        **sampling(),
        **tools(),
        **forms(),
        **templates(),
        "max_completion_tokens": LENGTH,
        "logprobs": FLAG,
        "top_logprobs": whole(0, MOST_LOGPROBS),
    }
    return record({**nullable(foreign()), **nullable(own), "messages": messages()}, ["messages"])


def completion_request() -> JsonSchema:
    """POST /v1/completions."""
    token_ids = items(whole(0), least=1)
    prompt = any_of(text(minLength=1), token_ids)
    own = {
        "model": text(256),
        **sampling(),
        **forms(),
        "logprobs": any_of(whole(0, MOST_LOGPROBS), one(False)),
        "echo": FLAG,
        "best_of": whole(1, MOST_ANSWERS, description="As many as n, or 1."),
    }
    return record(
        {**nullable(foreign()), **nullable(own), "prompt": any_of(prompt, items(prompt, MOST_PROMPTS, least=1))},
        ["prompt"],
    )
