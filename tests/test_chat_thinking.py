"""Chat formats from end to end: thinking that the prompt opened, and calls, in the terminal's chat and over HTTP."""

import pytest
from chat_reading import GENERATED
from edge_client import TOOLS, chat, chunks_of, pieces
from fake_engine import TEMPLATE, FakeEngine
from tiny_bundle import TEMPLATE as TINY_TEMPLATE
from tiny_bundle import WORDS, ids_of, write_tiny_bundle

from moedge.edge_server.startup import greeting
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.chat.delta import Content, Reasoning
from moedge.runtime.chat.formats import GRAMMARS
from moedge.runtime.conversation import Conversation

OPENS = TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}")
ANSWER = 'The lamp.\n</think>\n\nSure.\n<tool_call>\n{"name": "set_light", "arguments": {"on": true}}\n</tool_call>'


@pytest.mark.parametrize("stream", [False, True])
def test_the_endpoint_knows_that_the_prompt_opened_the_thinking(serve, stream):
    assert OPENS != TEMPLATE
    engine = FakeEngine(lambda prompt: pieces(ANSWER), chat_format="hermes", template=OPENS)
    response = chat(serve(engine), tools=TOOLS, stream=stream)
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(response)]
        assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "The lamp."
        assert "".join(delta.get("content", "") for delta in deltas) == "Sure.\n"
        return
    message = response.json["choices"][0]["message"]
    (call,) = message.pop("tool_calls")
    assert message == {"role": "assistant", "content": "Sure.\n", "reasoning_content": "The lamp."}
    assert GENERATED.fullmatch(call["id"])
    assert call["function"] == {"name": "set_light", "arguments": '{"on": true}'}


def test_without_an_open_thought_the_same_answer_is_content(serve):
    engine = FakeEngine(lambda prompt: pieces("a</think>b"), chat_format="hermes")
    assert chat(serve(engine)).json["choices"][0]["message"] == {"role": "assistant", "content": "a</think>b"}


def test_a_conversation_knows_it_from_the_prompts_tokens(tmp_path):
    think, end_think = WORDS.token_to_id("<think>"), WORDS.token_to_id("</think>")
    (h,), (i,), end = ids_of("h"), ids_of("i"), WORDS.token_to_id("<|im_end|>")
    template = TINY_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>{% endif %}")
    chain = {think: h, h: end_think, end_think: i, i: end}
    engine = Engine.load(write_tiny_bundle(tmp_path, chain, template=template, chat_format="glm"))
    conversation = Conversation(engine, SamplingParams(temperature=0))
    conversation.say("so")
    assert list(conversation.stream(conversation.begin())) == [Reasoning("h"), Content("i")]
    assert conversation.messages[-1] == {"role": "assistant", "content": "i", "reasoning_content": "h"}


@pytest.mark.parametrize("chat_format", sorted(GRAMMARS))
def test_the_server_offers_a_tool_where_the_format_has_calls(serve, chat_format):
    calls = GRAMMARS[chat_format].calls_tools
    assert ("set_light" in greeting("m", "http://127.0.0.1:1", None, chat_format)) == calls
    response = chat(serve(FakeEngine(chat_format=chat_format)), tools=TOOLS)
    assert response.status_code == (200 if calls else 400)
    assert calls or response.json["error"]["param"] == "tools"
