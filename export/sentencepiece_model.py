"""A SentencePiece `tokenizer.model` as a `tokenizer.json` that gives the same tokens.

The file is a protocol buffer that the sentencepiece package describes. Its BPE merges, of all neighbours that make a
piece, those whose piece scores highest; as merges they are every split of a piece into two pieces, by score.
Where the model normalizes by a table, `tokenizers` does so grapheme by grapheme: a compatibility character followed by
a foreign combining mark may come out otherwise, as in Hugging Face's own fast tokenizers.
"""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors

from moedge.devices.errors import MoedgeError

SENTENCEPIECE_NAME = "tokenizer.model"
SPACE = "▁"  # how pieces spell a blank


def read_sentencepiece(path: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a SentencePiece model; MoedgeError if it is broken or of a kind that cannot be expressed."""
    proto = _parse(path)
    spec = proto.trainer_spec
    kind = type(proto.pieces[0])
    pieces = [piece.piece for piece in proto.pieces]
    unknown = next((i for i, piece in enumerate(proto.pieces) if piece.type == kind.UNKNOWN), None)
    if spec.model_type != spec.BPE:
        raise MoedgeError(f"{path} is no BPE model but another of SentencePiece's: add a tokenizer.json instead.")
    if unknown is None:
        raise MoedgeError(f"{path} has no unknown piece: download it again.")
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            _merges(proto, kind),
            unk_token=pieces[unknown],
            fuse_unk=True,
            byte_fallback=any(piece.type == kind.BYTE for piece in proto.pieces),
        )
    )
    _dress(tokenizer, proto.normalizer_spec)
    for i, piece in enumerate(proto.pieces):
        if piece.type in (kind.CONTROL, kind.UNKNOWN, kind.USER_DEFINED):
            special = piece.type != kind.USER_DEFINED
            tokenizer.add_tokens([AddedToken(piece.piece, special=special, normalized=False)])
            if tokenizer.token_to_id(piece.piece) != i:
                raise MoedgeError(f"{path} names the piece {piece.piece!r} twice: download it again.")
    _surround(tokenizer, pieces, config, spec)
    return tokenizer


def _parse(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise MoedgeError(f"{path} is not a SentencePiece model ({error}): download it again.") from None
    if not proto.pieces:
        raise MoedgeError(f"{path} is not a SentencePiece model (it has no pieces): download it again.")
    return proto


def _merges(proto: Any, kind: Any) -> list[tuple[str, str]]:
    """Every split of a piece into two pieces, the best piece first."""
    mergeable = {p.piece: p.score for p in proto.pieces if p.type == kind.NORMAL}
    splits = [
        (-score, -mergeable[piece[:cut]], -mergeable[piece[cut:]], piece[:cut], piece[cut:])
        for piece, score in mergeable.items()
        for cut in range(1, len(piece))
        if piece[:cut] in mergeable and piece[cut:] in mergeable
    ]
    return [(a, b) for *_, a, b in sorted(splits)]


def _dress(tokenizer: Tokenizer, spec: Any) -> None:
    """What SentencePiece does to a text before and after: its normalization, and blanks as a letter."""
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    parts: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else [])])


def _surround(tokenizer: Tokenizer, pieces: list[str], config: dict[str, Any], spec: Any) -> None:
    """Beginning- and end-of-sequence tokens around a bare text, as the config says; a beginning by default."""
    around = {}
    for name, number, usual in (("bos", spec.bos_id, True), ("eos", spec.eos_id, False)):
        if config.get(f"add_{name}_token", usual) and 0 <= number < len(pieces):
            around[name] = (pieces[number], number)
    if around:
        template = [token[0] for token in (around.get("bos"),) if token] + ["$A"]
        template += [token[0] for token in (around.get("eos"),) if token]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(template), special_tokens=list(around.values())
        )
