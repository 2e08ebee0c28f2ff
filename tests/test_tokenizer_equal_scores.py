"""Pieces that share a score: Mistral's own models, runs of blanks of many sets of lengths, and others that compete."""

import importlib.util
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from test_tokenizer_sentencepiece import trained
from tokenizer_texts import TEXTS, random_texts
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import models

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.equals import AmbiguityError
from moedge.export.tokenizer.merges import rebuild_merges
from moedge.export.tokenizer.reading import read_tokenizer
from moedge.runtime.text import Tokenizer

SHIPPED = Path(next(iter(importlib.util.find_spec("mistral_common").submodule_search_locations))) / "data"
MISTRAL = sorted(path.name for path in SHIPPED.glob("*.model*"))
LENGTHS = [*range(2, 15), 16]  # of Mistral's and Llama's runs of blanks


def blanks(longest):
    """Runs alone, within a line, before a word that takes the last blank, and before one that takes none."""
    around = (("", ""), ("a", "b"), ("\n", "the"), ("é", "哈"), ("the", "\n"))
    return [f"{left}{' ' * n}{right}" for left, right in around for n in range(1, longest + 1)]


def soups(count, seed):
    """Texts of blanks between words, signs and letters that are no pieces."""
    rng = random.Random(seed)
    parts = [*(" " * n for n in range(1, 40)), "▁", "▁▁▁", "the", "return", "a", "\t", "\n", "é", "哈", "(", "1"]
    return ["".join(rng.choice(parts) for _ in range(rng.randint(1, 12))) for _ in range(count)]


def write(folder, model):
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    return folder


def same_ids(folder, model, texts):
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = Tokenizer(read_tokenizer(write(folder, model)))
    assert [text for text in texts if ours.encode(text) != theirs.encode(text)] == []
    for text in texts[::7]:
        assert ours.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))


def test_mistral_ships_five():
    assert len(MISTRAL) >= 5


@pytest.mark.parametrize("name", MISTRAL)
def test_ids_of_mistrals_models(tmp_path, name):
    texts = [*TEXTS, "\n".join(TEXTS), *random_texts(1500, seed=3), *blanks(300), *soups(1500, seed=5)]
    same_ids(tmp_path, (SHIPPED / name).read_bytes(), texts)


@pytest.fixture(scope="module")
def llama():
    return trained()


def with_runs(model, lengths, score=-1e9, character="▁"):
    """The model with runs of a character of these lengths, of one score, in the place of its own."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    own = [piece for piece in proto.pieces if len(piece.piece) > 1 and set(piece.piece) == {character}]
    for piece in own:
        proto.pieces.remove(piece)
    if all(piece.piece != character for piece in proto.pieces):
        proto.pieces.add(piece=character, score=-2e9)
    for length in lengths:
        proto.pieces.add(piece=character * length, score=score)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "lengths",
    [LENGTHS, [2, 4, 8], [2, 3, 4], [2], [2, 3, 4, 6, 8], range(2, 9), range(2, 17), [2, 3, 4, 8], [2, 4, 6, 8],
     [16, 12, 8, 4, 3, 2], [2, 4, 8, 16, 32, 31, 24, 3, 6], [2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16]],
    ids=lambda lengths: "-".join(map(str, lengths)),
)  # fmt: skip
@pytest.mark.parametrize("character", ["▁", "☃"])
def test_runs_of_other_lengths(tmp_path, llama, lengths, character):
    texts = [text.replace(" ", character.replace("▁", " ")) for text in [*blanks(4 * max(lengths)), *soups(300, 1)]]
    same_ids(tmp_path, with_runs(llama, lengths, character=character), [*TEXTS, *texts])


@pytest.mark.parametrize(
    "lengths", [[2, 3], [2, 3, 4, 5, 8], [16, 12, 8, 5, 4, 3, 2], range(2, 32), [2, 3, 6], [2, 4, 8, 12]], ids=str
)
def test_runs_that_no_order_joins_alike_are_refused(tmp_path, llama, lengths):
    """Of 3 and 3, or 5 and 1, merges make 2, 2 and 2, or 4 and 2: they double everything before they add."""
    with pytest.raises(MoedgeError, match=r"same score that compete for text, such as '▁▁' and '▁▁▁+', which cannot"):
        read_tokenizer(write(tmp_path, with_runs(llama, lengths)))


def with_equals(model, *pieces):
    """The model with more pieces, all of the lowest score but one."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in pieces:
        proto.pieces.add(piece=piece, score=-1e6)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "pieces",
    [
        ("qz", "#9", "::;", "((x"),  # never meet
        ("qz", "zx", "x#", "#9"),  # each may begin where one before it ends
        ("#9", "x#", "zx", "qz", "z("),
        ("qq", "qz", ":q"),  # a run that is the only one of its score
    ],
)
def test_other_pieces_of_one_score(tmp_path, llama, pieces):
    rng = random.Random(0)
    texts = ["".join(rng.choice("qzx#9:;)( ") for _ in range(30)) for _ in range(3000)]
    same_ids(tmp_path, with_equals(llama, *pieces), [*TEXTS, *texts])


@pytest.mark.parametrize(
    ("pieces", "match"),
    [
        (("qz", "zq"), "'qz' and 'zq'"),  # qzq, zqz
        (("qz", "zx#", "#9q"), "'(#9q|qz|zx#)' and"),
        (("qz", "zqzx"), "'zqzx' and 'qz'"),  # one inside another
        (("qq", "qqq", "qz"), "'qqq?' and 'qz'"),
    ],
)
def test_pieces_of_one_score_whose_order_depends_on_the_text_are_refused(tmp_path, llama, pieces, match):
    with pytest.raises(MoedgeError, match=match):
        read_tokenizer(write(tmp_path, with_equals(llama, *pieces)))


def lowest_leftmost(text, ranks):
    """What an encoder by ranks makes of a text, spelt out."""
    parts = list(text)
    while True:
        pairs = [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
        if not pairs:
            return parts
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_random_vocabularies_with_equals():
    """Each is refused, or its merges encode all texts as its ranks do; both happen often."""
    rng, refused, exact = random.Random(2), 0, 0
    for _ in range(4000):
        letters = rng.choice(["ab", "abcd", "a", "abcdef"])
        tokens = {"".join(rng.choice(letters) for _ in range(rng.randint(2, 5))) for _ in range(rng.randint(2, 7))}
        ranks = {token: rng.randint(0, 6) for token in sorted(tokens)}
        tied = len(set(ranks.values())) < len(ranks)
        try:
            merges = rebuild_merges(ranks)
        except AmbiguityError as error:
            assert tied
            assert {error.one, error.other} <= tokens
            refused += 1
            continue
        exact += tied
        vocab = {part: n for n, part in enumerate(sorted({*letters, *ranks}))}
        built = HubTokenizer(models.BPE(vocab=vocab, merges=merges))
        for text in ("".join(rng.choice(letters) for _ in range(rng.randint(1, 30))) for _ in range(20)):
            assert built.encode(text).tokens == lowest_leftmost(text, ranks), (ranks, text)
    assert refused > 300
    assert exact > 300
