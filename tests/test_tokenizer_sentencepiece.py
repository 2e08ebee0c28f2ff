import io
import json
import random
import string

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizer_texts import TEXTS, corpus, random_texts

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.reading import read_tokenizer
from moedge.runtime.text import Tokenizer

SENTENCES = [line for line in corpus() if line.strip()]


def trained(**changes) -> bytes:
    """A SentencePiece model with Llama's settings, small."""
    written = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": 3000,
        "byte_fallback": True,
        "character_coverage": 0.98,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "num_threads": 1,
        "minloglevel": 2,
    } | changes
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=written, **settings)
    return written.getvalue()


def write(folder, model, **config):
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"} | config))
    return folder


def pair(folder, model, **config):
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    return Tokenizer(read_tokenizer(write(folder, model, **config))), theirs


@pytest.fixture(scope="module")
def llama():
    return trained()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": True},
        {"remove_extra_whitespaces": True, "add_dummy_prefix": False},
        {"byte_fallback": False},
        {"control_symbols": "[INST],[/INST]", "unk_id": 3, "bos_id": 0, "eos_id": 1, "pad_id": 2},
    ],
    ids=lambda settings: "-".join(settings) or "llama",
)
def test_ids_of_mixed_texts_and_random_strings(tmp_path, settings):
    model = trained(**settings)
    ours, theirs = pair(tmp_path, model)
    for text in [*TEXTS, "\n".join(TEXTS), *random_texts(3000, seed=7)]:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, text
        if not settings:  # blanks squeezed and unknown characters do not come back
            assert ours.decode(ids) == text.replace("▁", " ")
            stream = ours.stream()
            assert "".join([*map(stream.push, ids), stream.flush()]) == text.replace("▁", " ")


def test_10000_random_strings(tmp_path, llama):
    ours, theirs = pair(tmp_path, llama)
    texts = random_texts(10_000, seed=11)
    assert [ours.encode(text) for text in texts] == theirs.encode(texts)


def test_decoding_agrees_and_the_first_blank_goes(tmp_path, llama):
    ours, theirs = pair(tmp_path, llama)
    for text in TEXTS:
        assert ours.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))
    ids = theirs.encode("we see the text")
    stream = ours.stream()
    assert stream.push(ids[0])[:1] == "w"


def test_control_symbols_stay_text_unless_they_are_allowed(tmp_path):
    model = trained(control_symbols="[INST],[/INST]")
    ours, theirs = pair(tmp_path, model)
    inst = theirs.piece_to_id("[INST]")
    for symbol in ("<s>", "</s>", "<unk>", "[INST]", "<0x0A>"):
        assert ours.encode(f"a {symbol} b") == theirs.encode(f"a {symbol} b")
    # as a chat is put together: ids of control symbols, and texts encoded each by itself
    expected = [1, inst, *theirs.encode(" what is it "), inst + 1, *theirs.encode("the text")]
    assert ours.encode("<s>[INST] what is it [/INST]the text", allow_special=True) == expected


def test_user_defined_symbols(tmp_path):
    symbols = ["<sep>", "<|user|>", "<sep><sep>", "qqq"]
    model = trained(user_defined_symbols=",".join(symbols), add_dummy_prefix=False)
    ours, theirs = pair(tmp_path, model)
    rng = random.Random(1)
    for _ in range(2000):
        text = "".join(
            rng.choice([*symbols, " ", "the ", "哈", "q", "<", "sep>", *string.ascii_lowercase]) for _ in range(8)
        )
        assert ours.encode(text, allow_special=True) == theirs.encode(text), text
    own = {theirs.piece_to_id(symbol) for symbol in symbols}
    assert not own & set(ours.encode("a<sep>b<|user|>"))


def test_a_prefix_stands_before_the_first_text_alone_if_it_is_not_legacy(tmp_path, llama):
    every, theirs = pair(tmp_path, llama)
    first, _ = pair(tmp_path, llama, legacy=False)
    none, _ = pair(tmp_path, llama, add_prefix_space=False)
    text, bare = theirs.encode("text"), none.encode("text")
    assert len({tuple(text), tuple(bare)}) == 2
    assert every.encode("text</s>text", allow_special=True) == [*text, 2, *text]
    assert first.encode("text</s>text", allow_special=True) == [*text, 2, *bare]
    assert none.encode("text</s>text", allow_special=True) == [*bare, 2, *bare]
    assert none.decode(theirs.encode("text")) == " text"


@pytest.mark.parametrize(
    ("config", "around"),
    [
        ({}, ([1], [])),
        ({"add_bos_token": False}, ([], [])),
        ({"add_eos_token": True}, ([1], [2])),
        ({"tokenizer_class": "PreTrainedTokenizer"}, ([], [])),
        ({"tokenizer_class": None, "add_bos_token": True, "bos_token": {"content": "</s>"}}, ([2], [])),
    ],
)
def test_what_stands_around_a_bare_text(tmp_path, llama, config, around):
    ours, theirs = pair(tmp_path, llama, **config)
    begin, end = around
    assert ours.encode("a b", add_special_tokens=True) == [*begin, *theirs.encode("a b"), *end]
    assert ours.encode("a b") == theirs.encode("a b")


def test_added_tokens_of_all_files(tmp_path, llama):
    size = sentencepiece.SentencePieceProcessor(model_proto=llama).vocab_size()
    write(
        tmp_path,
        llama,
        added_tokens_decoder={
            "1": {"content": "<begin>", "special": True},  # another spelling of a control piece
            str(size + 1): {"content": "<call>", "special": False},
        },
    )
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<call>": size + 1, "<one>": size}))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<begin>", "additional_special_tokens": ["<one>"], "pad_token": "<no id>"})
    )
    definition = read_tokenizer(tmp_path)
    ours = Tokenizer(definition)
    assert [ours.spelling(i) for i in (1, size, size + 1, size + 2)] == ["<begin>", "<one>", "<call>", None]
    assert not {"<s>", "<no id>"} & {ours.spelling(i) for i in range(size + 2)}
    flags = {token["content"]: token["special"] for token in json.loads(definition)["added_tokens"]}
    assert flags == {"<unk>": True, "<begin>": True, "</s>": True, "<one>": True, "<call>": False}
    assert ours.encode("<begin><call><one>", allow_special=True) == [1, size + 1, size]
    assert ours.encode("a", add_special_tokens=True)[0] == 1


def changed(model: bytes, change) -> bytes:
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    change(proto)
    return proto.SerializeToString()


def make_unused(proto):
    proto.pieces[400].type = proto.pieces[400].UNUSED


def make_equal(proto):
    """One lies in the other; pieces of one score that do not are in test_tokenizer_equal_scores.py."""
    scores = {piece.piece: piece.score for piece in proto.pieces}
    longer = next(
        piece
        for piece in proto.pieces
        if len(piece.piece) > 2 and len(piece.piece[:-1]) > 1 and piece.type == 1 and piece.piece[:-1] in scores
    )
    longer.score = scores[longer.piece[:-1]]


def make_blank_symbol(proto):
    proto.pieces.add(piece="▁▁▁▁▁", type=4)


def make_suffix(proto):
    proto.trainer_spec.treat_whitespace_as_suffix = True


def make_short_control(proto):
    proto.pieces[1].piece = "s"


def drop_a_letter(proto):
    del proto.pieces[next(n for n, piece in enumerate(proto.pieces) if piece.piece == "t")]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (make_unused, "unused pieces"),
        (make_equal, "same score"),
        (make_blank_symbol, "symbol with a blank"),
        (make_suffix, "puts blanks behind words"),
        (make_short_control, "among its control pieces"),
        (drop_a_letter, "'t', which is not one of its pieces"),
        (lambda proto: proto.pieces.add(piece="<s>", type=3), "spells two tokens alike"),
    ],
)
def test_what_would_get_other_ids_is_refused(tmp_path, llama, change, match):
    with pytest.raises(MoedgeError, match=match):
        read_tokenizer(write(tmp_path, changed(llama, change)))


def test_tables_and_unigram_models_are_refused(tmp_path):
    for settings, match in (
        ({"normalization_rule_name": "nmt_nfkc"}, r"normalizes text by a table \(nmt_nfkc\).*add a tokenizer\.json"),
        ({"model_type": "unigram", "byte_fallback": True}, "no byte-pair model"),
    ):
        with pytest.raises(MoedgeError, match=match):
            read_tokenizer(write(tmp_path, trained(**settings)))


def test_broken_and_contradicting_files(tmp_path, llama):
    for model, config, match in (
        (b"no model", {}, "not a SentencePiece model"),
        (b"", {}, "no byte-pair model"),
        (llama, {"added_tokens_decoder": {"400": {"content": "<x>"}}}, "they do not belong together"),
        (
            llama,
            {"added_tokens_decoder": {"5000": {"content": "<x>"}}},
            "'<x>' the id 5000, the tokenizer gives it 3000",
        ),
        (llama, {"added_tokens_decoder": {"x": {"content": "<x>"}}}, "broken entry x"),
        (llama, {"bos_token": "<none>"}, "adds the bos_token '<none>'"),
    ):
        with pytest.raises(MoedgeError, match=match):
            read_tokenizer(write(tmp_path, model, **config))
