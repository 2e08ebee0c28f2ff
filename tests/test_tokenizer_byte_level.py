"""vocab.json and merges.txt of slow byte-level tokenizers: ids and texts as transformers' own conversion has them."""

import json
import random

import pytest
import transformers
from tokenizer_texts import TEXTS, corpus, random_texts
from tokenizers import Regex, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import models as hub_models

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.reading import read_tokenizer
from moedge.runtime.cli import main
from moedge.runtime.text import Tokenizer

END, START, CALL = "<|endoftext|>", "<|im_start|>", "<tool_call>"
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
CLASSES = ["Qwen2Tokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer"]
# A wider split than any of the classes has, so that every class meets merges that only another one would use
SPLIT = Regex(r"\s*\p{L}+|\s*\p{N}+|[^\p{L}\p{N}]+")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A vocabulary of 4,000 tokens and its merges, as transformers 4 wrote both."""
    trained = HubTokenizer(hub_models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(SPLIT, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=ALPHABET, show_progress=False)
    trained.train_from_iterator(corpus(), trainer)
    folder = tmp_path_factory.mktemp("trained")
    trained.model.save(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text())
    return vocab, (folder / "merges.txt").read_text()


def write(folder, files, added=True, **config):
    vocab, merges = files
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    size = len(vocab)
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    named = [(END, True), (START, True), (CALL, False)]
    decoder = {str(size + n): {"content": text, "special": special} | flags for n, (text, special) in enumerate(named)}
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": END, "add_prefix_space": False} | config
    config |= {"added_tokens_decoder": decoder} if added else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def theirs(folder, name):
    return getattr(transformers, name).from_pretrained(folder)


def soups(count):
    """Texts of what the classes split differently: digits, contractions, blanks, accents apart from their letters."""
    rng = random.Random(4)
    parts = [
        "12",
        "345",
        "'s",
        "'S",
        "'Ll",
        "don't",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "e\u0301",
        "é",
        "\u1100\u1161",
        "a",
    ]
    parts += ["a", ".", "!?", "哈", "₂", "x1"]
    return ["".join(rng.choice(parts) for _ in range(rng.randint(1, 12))) for _ in range(count)]


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_ids_and_texts_as_transformers_has_them(tmp_path, files, name, prefix):
    folder = write(tmp_path, files, tokenizer_class=name, add_prefix_space=prefix)
    ours, reference = Tokenizer(read_tokenizer(folder)), theirs(folder, name)
    for text in [*TEXTS, "\n".join(TEXTS), *random_texts(3000, seed=9), *soups(2000)]:
        ids = reference.encode(text, add_special_tokens=False, split_special_tokens=True)
        if not any(spelled in text for spelled in (END, START, CALL)):
            assert ours.encode(text) == ids, text
            assert ours.decode(ids) == reference.decode(ids, clean_up_tokenization_spaces=False)
        whole = reference.encode(text, add_special_tokens=False)
        assert ours.encode(text, allow_special=True) == whole, text


def test_the_classes_differ(tmp_path, files):
    text = "a12 e\u0301 'S\n\nx"
    found = {tuple(Tokenizer(read_tokenizer(write(tmp_path, files, tokenizer_class=n))).encode(text)) for n in CLASSES}
    assert len(found) == 3


def test_tokens_of_their_own(tmp_path, files):
    size = len(files[0])
    ours = Tokenizer(read_tokenizer(write(tmp_path, files, tokenizer_class="Qwen2TokenizerFast")))
    assert ours.encode(f"{START}a{CALL}", allow_special=True) == [size + 1, *ours.encode("a"), size + 2]
    assert not {size, size + 1, size + 2} & set(ours.encode(f"{START}a{CALL}{END}"))
    flags = {t["content"]: t["special"] for t in json.loads(read_tokenizer(tmp_path))["added_tokens"]}
    assert flags == {END: True, START: True, CALL: False}


def test_an_end_of_text_in_the_vocabulary_itself_is_special(tmp_path, files):
    """As GPT-2's own is, which no file has to name."""
    vocab = {END: 0} | {token: n + 1 for token, n in files[0].items()}
    folder = write(tmp_path, (vocab, files[1]), added=False, tokenizer_class="GPT2Tokenizer", eos_token=None)
    ours = Tokenizer(read_tokenizer(folder))
    assert ours.encode(f"a{END}", allow_special=True) == [*ours.encode("a"), 0]
    assert 0 not in ours.encode(f"a{END}")


@pytest.mark.parametrize(
    ("config", "around"),
    [({}, ([], [])), ({"add_bos_token": True}, ([0], [])), ({"add_bos_token": True, "bos_token": START}, ([1], [])),
     ({"add_eos_token": True}, ([], [0]))],
)  # fmt: skip
def test_what_stands_around_a_bare_text(tmp_path, files, config, around):
    ours = Tokenizer(read_tokenizer(write(tmp_path, files, tokenizer_class="GPT2Tokenizer", **config)))
    begin, end = ([len(files[0]) + n for n in part] for part in around)
    assert ours.encode("a b", add_special_tokens=True) == [*begin, *ours.encode("a b"), *end]


def test_files_that_an_editor_on_windows_saved_and_merges_without_a_version(tmp_path, files):
    vocab, merges = files
    expected = read_tokenizer(write(tmp_path, files))
    assert merges.startswith("#version")
    for text in (merges.partition("\n")[2], merges.replace("\n", "\r\n"), merges + "\n\n"):
        assert read_tokenizer(write(tmp_path, (vocab, text))) == expected
    write(tmp_path, files)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert read_tokenizer(tmp_path) == expected


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v, m: ({}, ""), "lacks tokens for 256 of the 256 bytes"),
        (lambda v, m: ({t: i for t, i in v.items() if t != "Ġ"}, m), "lacks tokens for 1 of the 256 bytes"),
        (lambda v, m: (v | {"!": v["#"]}, m), "two tokens the same id"),
        (lambda v, m: (v | {"!": "0"}, m), "does not hold tokens and their ids"),
        (lambda v, m: (["!"], m), "does not hold tokens and their ids"),
        (lambda v, m: (v, m + "qqq zzz\n"), r"do not belong together \(.*out of vocabulary"),
        (lambda v, m: (v, m + "a b c\n"), r"line \d+ of .*merges.txt is not a merge of two tokens"),
        (lambda v, m: (v, m + "ab\n"), r"line \d+ of .* is not a merge"),
    ],
)
def test_broken_files(tmp_path, files, change, match):
    with pytest.raises(MoedgeError, match=match) as caught:
        read_tokenizer(write(tmp_path, change(*files)))
    assert str(caught.value).endswith(".")


def test_classes_that_split_in_ways_not_known(tmp_path, files):
    for name, match in (
        ("RobertaTokenizer", "is read by RobertaTokenizer, whose way"),
        (None, "is read by no class that tokenizer_config.json names"),
        (["Qwen2Tokenizer"], "is read by"),
    ):
        with pytest.raises(MoedgeError, match=match):
            read_tokenizer(write(tmp_path, files, tokenizer_class=name))


def test_merges_that_are_missing(tmp_path, files):
    (write(tmp_path, files) / "merges.txt").unlink()
    with pytest.raises(MoedgeError, match=r"has vocab\.json but no merges\.txt"):
        read_tokenizer(tmp_path)


def test_ids_that_leave_a_hole(tmp_path, files):
    (write(tmp_path, files, added=False) / "added_tokens.json").write_text(json.dumps({END: len(files[0]) + 3}))
    with pytest.raises(MoedgeError, match="they do not belong together"):
        read_tokenizer(tmp_path)


def test_from_a_hub(hub, broken, tmp_path, files):
    (broken / "tokenizer.json").unlink()
    write(broken, files)
    assert main(["export", "hf://org/broken", "-o", str(tmp_path / "bundle")]) == 0
    assert {"vocab.json", "merges.txt"} <= set(hub.asked())
    assert (tmp_path / "bundle" / "tokenizer.json").read_text(encoding="utf-8") == read_tokenizer(broken)
