"""A SentencePiece `tokenizer.model` of byte-pair merges as a tokenizer.json that gives the same ids.

What `tokenizers` cannot do as SentencePiece does is refused: normalization tables, unigram models, unused pieces.
Between special tokens each text is encoded as SentencePiece encodes it by itself, a leading ▁ included.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.equals import AmbiguityError
from moedge.export.tokenizer.merges import rebuild_merges

_BLANK = "▁"
_BPE = 2  # trainer_spec.model_type
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # type of a piece


def convert_sentencepiece(path: Path, config: Mapping[str, Any], named: Mapping[int, AddedToken]) -> Tokenizer:
    """The tokenizer of a SentencePiece file; MoedgeError if it is broken or cannot be converted exactly.

    `config` is tokenizer_config.json, of which `add_prefix_space` and `legacy` are read. `named` are added tokens by id
    from the files beside it: they spell control pieces anew and come on top of the file's own control and user-defined
    symbols, which become added tokens too.
    """
    try:
        # The class is made when its module is imported, from a description of the format.
        proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())  # type: ignore[attr-defined]
    except DecodeError:
        raise MoedgeError(f"{path} is not a SentencePiece model: download it again.") from None
    spec = proto.normalizer_spec
    _refuse_inexact(path, proto)
    spelled = _spellings(path, proto, named)
    vocab = {content: token_id for token_id, content in enumerate(spelled)}
    if not vocab or len(vocab) != len(spelled):
        raise MoedgeError(f"{path} is empty or spells two tokens alike: download it again.")
    kinds = [piece.type for piece in proto.pieces]
    unknown = next((content for content, kind in zip(spelled, kinds, strict=True) if kind == _UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(path, proto),
            unk_token=unknown,
            fuse_unk=True,  # SentencePiece gives a run of unknown characters one id
            byte_fallback=proto.trainer_spec.byte_fallback,
        )
    )
    prefix = bool(_first(config.get("add_prefix_space"), spec.add_dummy_prefix))
    # `legacy: false` is a fix in transformers: ▁ stands before the first text alone, and not before a blank.
    legacy = bool(_first(config.get("legacy"), True))
    tokenizer.normalizer = _normalizer(spec.remove_extra_whitespaces, prefix and legacy)
    if prefix and not legacy:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_BLANK, prepend_scheme="first", split=False)
    steps = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix or spec.remove_extra_whitespaces:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    added = {
        token_id: AddedToken(content, special=kind != _USER_DEFINED)
        for token_id, (content, kind) in enumerate(zip(spelled, kinds, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    }
    # Not normalized: a spelling is looked for in the text as it came, before blanks become ▁.
    tokenizer.add_tokens(
        [
            AddedToken(
                token.content,
                special=token.special,
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=False,
            )
            for _, token in sorted((added | dict(named)).items())
        ]
    )
    return tokenizer


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _refuse_inexact(path: Path, proto: Any) -> None:
    """Raise MoedgeError for what would get other ids than SentencePiece gives."""
    spec = proto.normalizer_spec
    odd = [p.piece for p in proto.pieces if p.type not in (_NORMAL, _USER_DEFINED) and len(p.piece) < 2]
    reasons = {
        "is no byte-pair model": proto.trainer_spec.model_type != _BPE,
        # `tokenizers` applies the table to whole graphemes, and so drops marks that SentencePiece keeps.
        f"normalizes text by a table ({spec.name})": bool(spec.precompiled_charsmap),
        "rewrites what it decodes by a table": bool(proto.denormalizer_spec.precompiled_charsmap),
        "keeps blanks as they are": not spec.escape_whitespaces,
        "puts blanks behind words": proto.trainer_spec.treat_whitespace_as_suffix,
        "has unused pieces": any(p.type == _UNUSED for p in proto.pieces),
        "has a user-defined symbol with a blank": any(
            p.type == _USER_DEFINED and _BLANK in p.piece for p in proto.pieces
        ),
        f"has {odd[:1]} among its control pieces": bool(odd),
    }
    for reason, found in reasons.items():
        if found:
            raise MoedgeError(
                f"{path} {reason}, which cannot be converted exactly: add a tokenizer.json to the checkpoint."
            )


def _spellings(path: Path, proto: Any, named: Mapping[int, AddedToken]) -> list[str]:
    """The pieces by id, control pieces as the files beside the model spell them."""
    spelled = []
    for token_id, piece in enumerate(proto.pieces):
        content = named[token_id].content if token_id in named else piece.piece
        if content != piece.piece and piece.type in (_NORMAL, _BYTE):
            raise MoedgeError(
                f"the files beside {path} give {content!r} the id {token_id}, which is {piece.piece!r} in it: "
                f"they do not belong together."
            )
        spelled.append(content)
    return spelled


def _merges(path: Path, proto: Any) -> list[tuple[str, str]]:
    """The merges by falling score; of pieces that share one SentencePiece joins the leftmost."""
    normal = {piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}
    joined = {piece: -score for piece, score in normal.items() if len(piece) > 1}
    ranks = {score: rank for rank, score in enumerate(sorted(set(joined.values())))}
    try:
        merges = rebuild_merges({piece: ranks[score] for piece, score in joined.items()})
    except AmbiguityError as tokens:
        raise MoedgeError(
            f"{path} gives pieces the same score that compete for text, such as {tokens.one!r} and {tokens.other!r}, "
            "which cannot be converted exactly: add a tokenizer.json to the checkpoint."
        ) from None
    missing = [part for pair in merges for part in pair if part not in normal]
    if missing:
        raise MoedgeError(
            f"{path} joins {missing[0]!r}, which is not one of its pieces: add a tokenizer.json to the checkpoint."
        )
    return merges


def _normalizer(squeeze: bool, prefix: bool) -> Any:
    """Blanks as SentencePiece treats them: squeezed and cut off at both ends if it says so, then spelled ▁."""
    steps: list[Any] = []
    if squeeze:
        steps += [
            normalizers.Replace(Regex(rf"\A +|[ {_BLANK}]+\z"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if prefix:
        steps.append(normalizers.Prepend(_BLANK))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", _BLANK)])
