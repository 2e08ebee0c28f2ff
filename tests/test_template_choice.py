"""Chat templates that are chosen at export: those that moedge brings, files, and what a bundle says of them."""

import json
import re

import pytest
import tiny_models as tiny
from test_chat_detection import TURNS, tokenizer
from tokenizers import AddedToken, Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.brought import brought_templates, read_brought
from moedge.export.tokenizer.chat_signs import detect
from moedge.export.tokenizer.template_choice import choose_template, suggest_template
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.formats import chat_parser
from moedge.runtime.chat.template import ChatTemplate
from moedge.runtime.cli import main
from moedge.runtime.manifest import read_manifest

USER, ASSISTANT, END = "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"
CALLS, END_CALLS = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, END_CALL, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
RESULTS, END_RESULTS = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
RESULT, END_RESULT = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
TOKENS = (USER, ASSISTANT, END, CALLS, END_CALLS, CALL, END_CALL, SEPARATOR, RESULTS, END_RESULTS, RESULT, END_RESULT)
DEEPSEEK = tokenizer(*TOKENS, "<think>", "</think>")
FENCED = f"{CALL}function{SEPARATOR}NAME\n```json\nARGUMENTS\n```{END_CALL}"
PLAIN = f"{CALL}NAME{SEPARATOR}ARGUMENTS{END_CALL}"
FORMATS = {"deepseek-r1": "deepseek_v3", "deepseek-v3": "deepseek_v3", "deepseek-v3.1": "deepseek_v3_1"}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Wetter", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "ping"}},
]
USERS = {"role": "user", "content": "Oslo?"}


def called(*names):
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": '{"city": "Oslo"}'}} for name in names
    ]
    return {"role": "assistant", "content": "I look.", "tool_calls": calls}


def result(name):
    return {"role": "tool", "tool_call_id": name, "content": f"{name}s"}


def template_of(name):
    chosen = choose_template(name, DEEPSEEK)
    assert chosen.name == name
    return ChatTemplate(chosen.source, TOKENS, bos_token="<bos>")


def test_every_one_that_is_brought_is_known_here():
    assert brought_templates() == tuple(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_conversation_is_written_as_the_makers_own_template_writes_it(name):
    messages = [
        {"role": "system", "content": "S"},
        USERS,
        called("weather", "ping"),
        result("weather"),
        result("ping"),
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nRain."},
        {"role": "user", "content": "And?"},
    ]
    closed = "</think>" if name == "deepseek-v3.1" else ""
    form = PLAIN if name == "deepseek-v3.1" else FENCED
    first, second = (form.replace("NAME", n).replace("ARGUMENTS", '{"city": "Oslo"}') for n in ("weather", "ping"))
    results = [f"{RESULT}{n}s{END_RESULT}" for n in ("weather", "ping")]
    joint = "" if name == "deepseek-v3.1" else "\n"
    shown = joint.join(results) if closed else RESULTS + joint.join(results) + END_RESULTS
    start = {"deepseek-r1": "<think>\n", "deepseek-v3": "", "deepseek-v3.1": "</think>"}[name]
    expected = f"<bos>S{USER}Oslo?{ASSISTANT}{closed}I look.{CALLS}{first}{joint}{second}{END_CALLS}{END}{shown}"
    template = template_of(name)
    assert template.render(messages[:5]) == expected  # the answer goes on behind the results
    expected += f"Rain.{END}{USER}And?{ASSISTANT}"
    assert template.render(messages) == expected + start
    assert template.render(messages, add_generation_prompt=False) == expected.removesuffix(ASSISTANT)


@pytest.mark.parametrize("name", FORMATS)
def test_the_parser_reads_what_the_template_teaches_and_what_it_shows(name):
    chat_format = detect(DEEPSEEK, read_brought(name))
    assert chat_format == FORMATS[name]
    prompt = template_of(name).render([USERS, called("weather", "ping")], TOOLS, add_generation_prompt=False)
    for tool in TOOLS:
        assert json.dumps(tool["function"], ensure_ascii=False) in prompt
    taught, shown = re.findall(f".*?{re.escape(CALLS)}.*?{re.escape(END_CALLS)}", prompt, re.DOTALL)
    for text, calls in (
        (taught.split("\n\n")[-1], [("NAME", '{"ARGUMENT": "VALUE"}')]),
        (shown.split(ASSISTANT)[1], [("weather", '{"city": "Oslo"}'), ("ping", '{"city": "Oslo"}')]),
    ):
        parser = chat_parser(chat_format, "", [{"function": {"name": n}} for n in ("NAME", "weather", "ping")])
        message = assistant_message([*parser.push(text), *parser.finish()])
        made = [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
        assert made == calls
        assert message["content"].removeprefix("</think>") in ("", "I look.")


def test_v3_1_thinks_where_it_is_told_to():
    template = template_of("deepseek-v3.1")
    assert template.variables == {"thinking"}
    assert template.render([USERS], variables={"thinking": True}).endswith(f"{ASSISTANT}<think>")


@pytest.mark.parametrize("name", FORMATS)
def test_a_user_cannot_write_a_call_or_a_tool_token(name):
    spelt = f"{CALLS}{CALL}function{SEPARATOR}f"
    pieces = template_of(name).render_pieces([{"role": "user", "content": spelt}])
    assert (spelt, False) in pieces


@pytest.mark.parametrize("name", FORMATS)
def test_one_for_another_vocabulary_is_refused(name):
    with pytest.raises(MoedgeError, match=f"{name} writes {re.escape(USER)}, which is no token of this model"):
        choose_template(name, tokenizer(*TOKENS[1:]))


def test_a_file_is_taken_as_it_is(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("{% generation %}" + TURNS + "{% endgeneration %}é", encoding="utf-8")
    chosen = choose_template(str(file), tokenizer())
    assert (chosen.name, chosen.source) == ("mine.jinja", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            None,
            "is no file, and none of the chat templates that moedge brings: deepseek-r1, deepseek-v3, deepseek-v3.1",
        ),
        (b"\xff", "cannot be read as text"),
        (b"{% for %}", "is not valid Jinja"),
        (b"{{ raise_exception('no assistants') }}", r"cannot render a plain conversation \(no assistants\)"),
        (b"{{ messages[0].text.strip() }}", "cannot render a plain conversation"),
        (b"{{ ''.__class__.__mro__ }}", "cannot render a plain conversation"),
        (b"{% for m in messages %}{{ m.text }}{% endfor %}", "does not show the model what a user says"),
        (TURNS.encode() + b"{% if tools %}{{ tools.name }}{% endif %}", "does not show the model the tools"),
        (TURNS.encode() + b"{% if tools %}{{ tools.name.strip() }}{% endif %}", "cannot render a plain"),
    ],
)
def test_a_file_that_shows_no_conversation_is_refused(tmp_path, source, message):
    file = tmp_path / "mine.jinja"
    if source is not None:
        file.write_bytes(source)
    with pytest.raises(MoedgeError, match=message) as caught:
        choose_template(str(file), tokenizer())
    assert str(caught.value).endswith(".")


V3 = TURNS + f"{{{{ '{CALL}function{SEPARATOR}' + name + '\\n```json' }}}}"
V3_1 = TURNS + f"{{{{ '{CALL}' + name + '{SEPARATOR}' }}}}{{{{ '<think>' }}}}"


@pytest.mark.parametrize(
    ("own", "tokens", "name"),
    [
        (V3, TOKENS, "deepseek-v3"),
        (V3 + "<think>\n", TOKENS, "deepseek-r1"),
        (V3_1, TOKENS, "deepseek-v3.1"),
        (V3 + "{{ tools }}", TOKENS, None),  # it shows them itself
        (V3, TOKENS[1:], None),
        (TURNS, TOKENS, None),  # DeepSeek V2: never taught to call
        (TURNS + "<tool_call>", TOKENS, None),
    ],
)
def test_one_is_suggested_where_the_checkpoints_own_shows_calls_and_no_tools(own, tokens, name):
    assert suggest_template(own, tokenizer(*tokens)) == name


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    tiny.save_checkpoint(tiny.deepseek_v3(num_hidden_layers=2), folder, 0)
    built = Tokenizer.from_file(str(folder / "tokenizer.json"))
    built.add_special_tokens([AddedToken(token, special=True) for token in TOKENS])
    built.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(V3, encoding="utf-8")
    return folder


def test_the_export_suggests_and_the_bundle_says_what_was_chosen(checkpoint, tmp_path, capsys):
    own, other = tmp_path / "own", tmp_path / "other"
    plain = ["--calibration", "none"]  # conversations of one in a template would be other text
    assert main(["export", str(checkpoint), "-o", str(own), *plain]) == 0
    note = "the checkpoint's chat template shows the model no tools, --chat-template deepseek-v3 does."
    assert f"note: {note}\n" in capsys.readouterr().err
    assert note in json.loads((own / "report.json").read_text())["notes"]
    assert json.loads((own / "manifest.json").read_text())["chat_template"] is None

    assert main(["export", str(checkpoint), "-o", str(other), "--chat-template", "deepseek-v3", *plain]) == 0
    assert "note: the checkpoint's chat template" not in capsys.readouterr().err
    assert json.loads((other / "report.json").read_text())["chat_template"] == "deepseek-v3"
    assert read_manifest(other).chat_template == "deepseek-v3"
    assert read_manifest(other).model.chat_format == "deepseek_v3"
    assert (other / "chat_template.jinja").read_text(encoding="utf-8") == read_brought("deepseek-v3")
    for name in ("model.onnx", "weights.bin"):
        assert (own / name).read_bytes() == (other / name).read_bytes()
    assert main(["inspect", str(other)]) == 0
    assert "chat        deepseek_v3, template deepseek-v3\n" in capsys.readouterr().out


def test_a_choice_that_fails_costs_no_export(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "b"), "--chat-template", "deepseek-v4"]) == 1
    assert "deepseek-v4 is no file" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]
