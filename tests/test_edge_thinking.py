"""How much to think, and variables of the template: asked over HTTP, set for a whole server, and for `moedge run`."""

import pytest
from edge_client import chat, chunks_of, error_of, pieces
from fake_engine import FakeEngine
from tiny_bundle import TEMPLATE as TINY_TEMPLATE
from tiny_bundle import WORDS, ids_of, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.chat.delta import Content, Reasoning
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.cli import main
from moedge.runtime.conversation import Conversation

HYBRID = (  # as Qwen3's: an empty thought where it is told not to think
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{{ effort_note }}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}"
)


@pytest.fixture
def ask(serve):
    """The prompt of a request, and the thinking and the content that are made of the same answer."""

    def ask(wishes=None, template=HYBRID, **fields):
        prompts = []

        def answer(prompt):
            prompts.append(prompt)
            return pieces("a</think>b")

        settings = {} if wishes is None else {"wishes": wishes}
        client = serve(FakeEngine(answer, chat_format="hermes", template=template), **settings)
        response = chat(client, **fields)
        assert response.status_code == 200, response.text
        if fields.get("stream"):
            deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(response)]
            said = ["".join(delta.get(key) or "" for delta in deltas) for key in ("reasoning_content", "content")]
        else:
            message = response.json["choices"][0]["message"]
            said = [message.get("reasoning_content", ""), message["content"]]
        return prompts[0], *said

    return ask


THINKS, SKIPS = "<|user|>hi<|assistant|><think>\n", "<|user|>hi<|assistant|><think>\n\n</think>\n\n"
ON, OFF = {"enable_thinking": True}, {"enable_thinking": False}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, THINKS),
        ({"chat_template_kwargs": OFF}, SKIPS),
        ({"chat_template_kwargs": ON}, THINKS),
        ({"chat_template_kwargs": {}}, THINKS),
        ({"chat_template_kwargs": None, "reasoning_effort": None}, THINKS),
        ({"reasoning_effort": "none"}, SKIPS),
        ({"reasoning_effort": "minimal"}, THINKS),
        ({"reasoning_effort": "none", "chat_template_kwargs": ON}, THINKS),
        ({"reasoning_effort": "high", "chat_template_kwargs": OFF}, SKIPS),
    ],
)
def test_thinking_is_switched_by_the_request_and_the_answer_is_read_so(ask, fields, prompt, stream):
    shown, thought, said = ask(**fields, stream=stream)
    assert shown == prompt
    assert (thought, said) == (("a", "b") if prompt == THINKS else ("", "a</think>b"))


@pytest.mark.parametrize(
    ("wishes", "fields", "prompt"),
    [
        (Wishes("none"), {}, SKIPS),
        (Wishes(variables=OFF), {}, SKIPS),
        (Wishes("none"), {"reasoning_effort": "low"}, THINKS),
        (Wishes(variables=OFF), {"reasoning_effort": "low"}, THINKS),
        (Wishes("none"), {"chat_template_kwargs": ON}, THINKS),
        (Wishes("high", OFF), {"reasoning_effort": None}, SKIPS),
        (Wishes("high"), {"reasoning_effort": "none"}, SKIPS),
    ],
)
def test_a_servers_own_wishes_hold_unless_a_request_says_otherwise(ask, wishes, fields, prompt):
    assert ask(wishes, **fields)[0] == prompt


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_an_effort_changes_nothing_for_a_template_that_knows_none(ask, effort):
    assert ask(template="{{ messages[0].content }}", reasoning_effort=effort)[0] == "hi"


def test_a_variable_that_the_template_does_not_read_is_refused(serve):
    client = serve(FakeEngine(template=HYBRID))
    error = error_of(chat(client, chat_template_kwargs={"thinkign": False}), 400)
    assert (error["param"], error["code"]) == ("chat_template_kwargs", "unknown_parameter")
    assert "'thinkign', its variables are: effort_note, enable_thinking." in error["message"]
    for name in ("messages", "tools", "add_generation_prompt", "bos_token"):
        error_of(chat(client, chat_template_kwargs={name: "x"}), 400)


DEEP = {"effort_note": [[[[[[[[]]]]]]]]}


@pytest.mark.parametrize("variables", [[], "x", 1, DEEP, {"effort_note": "x" * 20_000}, {str(n): 1 for n in range(33)}])
def test_variables_out_of_bounds_are_named(serve, variables):
    error = error_of(chat(serve(FakeEngine(template=HYBRID)), chat_template_kwargs=variables), 400)
    assert error["param"] == "chat_template_kwargs"


@pytest.mark.parametrize("effort", ["lowest", "", 1, True, ["low"], {"effort": "low"}])
def test_an_effort_that_is_none_is_named(serve, effort):
    error = error_of(chat(serve(), reasoning_effort=effort), 400)
    assert error["param"] == "reasoning_effort"
    assert "none, minimal, low, medium, high, xhigh, max" in error["message"]


def test_a_bare_text_has_no_template_to_tell(serve):
    for fields in ({"reasoning_effort": "low"}, {"chat_template_kwargs": OFF}):
        error = error_of(serve().post("/v1/completions", json={"prompt": "x", **fields}), 400)
        assert error["param"] in fields


@pytest.fixture
def hybrid(tmp_path):
    """A bundle that thinks "h" and says nothing, or, told not to think, says "i"."""
    think, end_think = WORDS.token_to_id("<think>"), WORDS.token_to_id("</think>")
    (h,), (i,), end = ids_of("h"), ids_of("i"), WORDS.token_to_id("<|im_end|>")
    closes = "{% if enable_thinking is defined and not enable_thinking %}</think>{% endif %}"
    template = TINY_TEMPLATE.replace("<|assistant|>{% endif %}", f"<|assistant|><think>{closes}{{% endif %}}")
    return write_tiny_bundle(
        tmp_path / "b", {think: h, h: end, end_think: i, i: end}, template=template, chat_format="glm"
    )


def test_a_conversation_keeps_its_session_with_variables(hybrid):
    engine = Engine.load(hybrid)
    said = {None: [Reasoning("h")], "none": [Content("i")]}
    for effort, parts in said.items():
        variables = engine.template_variables(Wishes(effort))
        conversation = Conversation(engine, SamplingParams(temperature=0), variables=variables)
        for turn in range(2):
            conversation.say("so")
            answer = conversation.begin()
            assert list(conversation.stream(answer)) == parts
            assert (answer.cached_tokens > 0) == (turn > 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], ""),
        (["--reasoning-effort", "low"], ""),
        (["--reasoning-effort", "none"], "i\n"),
        (["--chat-template-kwargs", '{"enable_thinking": false}'], "i\n"),
        (["--reasoning-effort", "none", "--chat-template-kwargs", '{"enable_thinking": true}'], ""),
    ],
)
def test_run_takes_both_options(hybrid, capsys, options, said):
    assert main(["run", str(hybrid), "so", *options]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chat-template-kwargs", '{"x": 1}'], "reads no variable 'x', its variables are: enable_thinking."),
        (["--chat-template-kwargs", "{"], "--chat-template-kwargs is not JSON"),
        (["--chat-template-kwargs", "[]"], "--chat-template-kwargs: it must be an object"),
        (["--raw", "--reasoning-effort", "low"], "which --raw leaves out"),
        (["--reasoning-effort", "lowest"], "'lowest' is not one of"),
    ],
)
def test_run_refuses_what_cannot_be_wished(hybrid, capsys, options, message):
    assert main(["run", str(hybrid), "so", *options]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_model_without_a_template_can_be_wished_nothing(tmp_path):
    engine = Engine.load(write_tiny_bundle(tmp_path, template=None))
    assert engine.template_variables(Wishes()) == {}
    with pytest.raises(MoedgeError, match="has no chat template"):
        engine.template_variables(Wishes("none"))
