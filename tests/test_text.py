import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import ADDED, SPECIAL, tokenizer
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as HubTokenizer

from moedge.devices.errors import MoedgeError
from moedge.runtime import text as module
from moedge.runtime.prompt_too_long import PromptTooLong
from moedge.runtime.text import PIECE, SEAM, SHORT, Tokenizer
from moedge.runtime.text_stream import StopStrings

BYTE_LEVEL = Tokenizer(tokenizer().to_str())
REFERENCE = tokenizer()


def byte_fallback() -> HubTokenizer:
    """A vocabulary as Llama 2 and Mixtral have it: blanks as ▁, unknown characters as tokens <0xNN>."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁b", "ü"]
    built = HubTokenizer(models.BPE({w: i for i, w in enumerate(words)}, [("▁", "a"), ("▁", "b")], byte_fallback=True))
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    built.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    built.add_special_tokens([AddedToken("</s>", special=True)])
    return built


FALLBACK = Tokenizer(byte_fallback().to_str())


def streamed(tok: Tokenizer, ids: list[int]) -> list[str]:
    stream = tok.stream()
    return [*(stream.push(i) for i in ids), stream.flush()]


@given(st.text())
def test_text_survives_the_round_trip(text):
    for tok in (BYTE_LEVEL, FALLBACK):
        assert tok.decode(tok.encode(text)) == text


@given(st.lists(st.integers(0, 272), max_size=30))
def test_a_byte_level_stream_is_the_text_of_all_tokens(ids):
    assert "".join(streamed(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids)
    ordinary = [i for i in ids if i < 262]
    assert BYTE_LEVEL.decode(ordinary) == REFERENCE.decode(ordinary, skip_special_tokens=False)


@given(st.text())
def test_no_piece_holds_a_part_of_a_character(text):
    for tok in (BYTE_LEVEL, FALLBACK):
        pieces = streamed(tok, tok.encode(text))
        assert "".join(pieces) == text
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces) or "\N{REPLACEMENT CHARACTER}" in text


def test_a_character_of_four_tokens_comes_with_the_last():
    for tok in (BYTE_LEVEL, FALLBACK):
        ids = tok.encode("a🦉")
        assert streamed(tok, ids)[-5:] == ["", "", "", "🦉", ""]


def test_an_unfinished_character_ends_as_a_replacement():
    for tok in (BYTE_LEVEL, FALLBACK):
        pieces = streamed(tok, tok.encode("a🦉")[:-1])
        assert pieces[-1].startswith("\N{REPLACEMENT CHARACTER}")
        assert not any(pieces[-4:-1])


def test_bytes_that_are_no_character_do_not_hold_the_stream_forever():
    for tok, token in ((BYTE_LEVEL, REFERENCE.token_to_id("ÿ")), (FALLBACK, byte_fallback().token_to_id("<0xFF>"))):
        stream = tok.stream()
        assert any(stream.push(token) for _ in range(20))


def test_blanks_between_words_are_streamed():
    assert streamed(FALLBACK, FALLBACK.encode("a b a")) == ["a", " b", " a", ""]


def test_special_tokens_of_users_stay_text():
    for spelled in (*SPECIAL, *ADDED):
        token = REFERENCE.token_to_id(spelled)
        assert BYTE_LEVEL.encode(spelled, allow_special=True) == [token]
        ids = BYTE_LEVEL.encode(f"x{spelled}y")
        assert token not in ids
        assert BYTE_LEVEL.decode(ids) == f"x{spelled}y"
    assert set(BYTE_LEVEL.special_tokens) == {*SPECIAL, *ADDED}


def test_decode_shows_special_tokens():
    ids = BYTE_LEVEL.encode("<think>hello</think><|eos|>", allow_special=True)
    assert BYTE_LEVEL.decode(ids) == "<think>hello</think><|eos|>"


def test_runs_of_blanks_may_be_added_tokens_for_everybody():
    built = tokenizer()
    built.add_tokens([AddedToken("    ", normalized=False)])
    assert built.token_to_id("    ") in Tokenizer(built.to_str()).encode("a    b")


def test_ids_beyond_the_vocabulary_are_empty():
    assert BYTE_LEVEL.decode([71, REFERENCE.get_vocab_size() + 3, 72]) == "hi"


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(MoedgeError, match="surrogate"):
        BYTE_LEVEL.encode("a\ud83d")


def test_a_stored_truncation_does_not_cut_prompts():
    built = tokenizer()
    built.enable_truncation(3)
    built.enable_padding(length=8)
    assert len(Tokenizer(built.to_str()).encode("abcdef")) == 6


def test_a_broken_file_is_one_sentence(tmp_path):
    with pytest.raises(MoedgeError, match=r"tokenizer\.json is missing"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    for broken in ("{", json.dumps({"model": 3}), "[]"):
        (tmp_path / "tokenizer.json").write_text(broken)
        with pytest.raises(MoedgeError, match="is not a tokenizer"):
            Tokenizer.from_file(tmp_path / "tokenizer.json")


def stopped(pieces: list[str], stop: tuple[str, ...]) -> tuple[str, str | None]:
    stops = StopStrings(stop)
    shown = "".join(stops.push(piece) for piece in pieces)
    return shown + stops.flush(), stops.found


@given(st.lists(st.text("ab", max_size=3)), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_are_found_however_the_text_is_cut(pieces, stop):
    text = "".join(pieces)
    shown, found = stopped(pieces, tuple(stop))
    if found is None:
        assert shown == text
        assert not any(s in text for s in stop)
    else:
        assert text.startswith(shown + found)
        assert not any(s in shown for s in stop)


def test_what_may_become_a_stop_string_is_held_back():
    stops = StopStrings(["###", "#!"])
    assert [stops.push(piece) for piece in ("a#", "#", "b", "#", "!", "x")] == ["a", "", "##b", "", "", ""]
    assert stops.found == "#!"
    assert stops.flush() == ""


@pytest.mark.parametrize("unit", ["a", " ", "hello wörld! ", "12", "日本", "a b"])
def test_what_fits_is_never_refused_and_what_does_not_always_is(unit):
    text = (unit * 8 * PIECE)[: 3 * PIECE + 7]
    for tok in (BYTE_LEVEL, FALLBACK):
        ids = tok.encode(text)
        assert tok.encode(text, most=len(ids)) == ids
        with pytest.raises(PromptTooLong, match=f"has {len(ids)} tokens, the context is {len(ids) - 1}"):
            tok.encode(text, most=len(ids) - 1)


@given(st.text(max_size=40), st.integers(1, 3), st.integers(0, 40))
def test_pieces_change_no_tokens(text, piece, most):
    """With pieces of one to three characters, though then each costs a seam."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        patch.setattr(module, "SHORT", 0)
        for tok in (BYTE_LEVEL, FALLBACK):
            ids = tok.encode(text)
            try:
                assert tok.encode(text, most=most) == ids
            except PromptTooLong:
                assert len(ids) > most


def test_a_text_that_is_far_too_long_is_hardly_looked_at(monkeypatch):
    looked = []
    encode = Tokenizer._encode
    monkeypatch.setattr(
        Tokenizer, "_encode", lambda self, text, *rest: looked.append(text) or encode(self, text, *rest)
    )
    for text in ("a" * 1_000_000, "hello " * 200_000, " " * 1_000_000):
        looked.clear()
        with pytest.raises(PromptTooLong):
            BYTE_LEVEL.encode(text, most=1000)
        assert sum(map(len, looked)) <= SHORT * 1000 + 2 * PIECE + SEAM


def test_threads_go_on_while_a_long_text_is_encoded():
    """The tokenizer's `encode` would hold the interpreter's lock all the while; turns are counted, not time."""
    turns, done = [0], threading.Event()

    def work():
        BYTE_LEVEL.encode("hello wörld! " * 60_000)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        turns[0] += 1
        done.wait(0.001)
    thread.join()
    assert turns[0] > 10
