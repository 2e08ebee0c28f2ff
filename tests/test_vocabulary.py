"""Vocabularies as grammars read them: the bytes of each token, texts as within others, and special tokens apart."""

import pytest
from tiny_bundle import WORDS
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Words

from moedge.devices.errors import MoedgeError
from moedge.runtime.constraint import AnswerGrammar, Grammars
from moedge.runtime.forms.lark_rules import quote
from moedge.runtime.text import Tokenizer
from moedge.runtime.vocabulary import Vocabulary

SPACE = "\u2581"
LETTERS = "abcdehlorw<>|:{}\"'1"
BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}
CHAIN = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def sentencepiece(first, decoder):
    """A vocabulary as Llama and Mistral had it: blanks spelled, bytes for what has no token."""
    pieces = [*BYTES, SPACE, *LETTERS, "he", "ll", "hell", "hello", f"{SPACE}w", f"{SPACE}wor"]
    merges = [
        ("h", "e"),
        ("l", "l"),
        ("he", "ll"),
        ("hell", "o"),
        (SPACE, "w"),
        (f"{SPACE}w", "o"),
        (f"{SPACE}wo", "r"),
    ]
    pieces.insert(-1, f"{SPACE}wo")
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, byte_fallback=True, fuse_unk=True)
    words = Words(model)
    if first == "normalizer":
        words.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    else:
        words.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=first, split=False)
    words.decoder = decoder
    words.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in ("</s>", "<tool>")])
    return Tokenizer(words.to_str())


CASES = {
    "always": ("always", decoders.Metaspace(SPACE, prepend_scheme="always")),
    "first": ("first", decoders.Sequence(CHAIN)),
    "never": ("never", decoders.Sequence(CHAIN[:3])),
    "normalizer": ("normalizer", decoders.Sequence(CHAIN)),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def words(request):
    return sentencepiece(*request.param)


def vocabulary_of(words, more=0):
    size = 0
    while words.spelling(size) is not None:
        size += 1
    return Vocabulary(words, size + more, [words.special_ids.get("</s>", 0)])


@pytest.mark.parametrize("text", ["hello wor", " wor", "wor", "<tool>", "a</s>", "é", " hello  hello", "x", '{"a": 1}'])
def test_a_text_is_cut_as_within_another(words, text):
    vocabulary = vocabulary_of(words)
    ids = vocabulary(text.encode())
    assert b"".join(vocabulary.tokens[i] for i in ids) == text.encode()
    assert not set(ids) & set(words.special_ids.values())
    if text == "hello wor":
        assert len(ids) == 2


@pytest.mark.parametrize("text", ["hello wor", "wor é", '{"a": "<tool>"}', " a"])
def test_an_answer_is_the_text_that_must_be_said(words, text):
    vocabulary = vocabulary_of(words)
    grammars = Grammars(words, len(vocabulary.tokens), [words.special_ids["</s>"]])
    constraint = grammars.constraint(AnswerGrammar("lark", f"start: {quote(text)}"))
    said = []
    while not constraint.done:
        token_id = constraint.forced[0] if constraint.forced else int(constraint.allowed().argmax())
        constraint.add(token_id)
        said.append(token_id)
    assert b"".join(vocabulary.tokens[i] for i in said) == text.encode()


def test_of_byte_level_vocabularies_each_token_has_its_bytes():
    words = Tokenizer(WORDS.to_str())
    vocabulary = vocabulary_of(words, 5)
    for token_id, piece in enumerate(vocabulary.tokens):
        assert piece == words.token_bytes(token_id)
    assert vocabulary.tokens[-5:] == [b""] * 5
    text = "hello <think> wörld".encode()
    assert b"".join(vocabulary.tokens[i] for i in vocabulary(text)) == text


def test_what_is_no_token_is_cut_as_well_as_can_be():
    vocabulary = vocabulary_of(Tokenizer(WORDS.to_str()))
    assert b"".join(vocabulary.tokens[i] for i in vocabulary(b"a\xffb")) == b"a\xffb"


def test_other_decoders_are_refused():
    words = Words(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(MoedgeError, match="unsupported decoder WordPiece"):
        Vocabulary(Tokenizer(words.to_str()), 2, [0])
