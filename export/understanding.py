"""All of a checkpoint but its weights: what model it is, how it talks, and whether everything about it is supported."""

from dataclasses import dataclass

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.formats import refuse_unreadable
from moedge.export.families import read_model_config
from moedge.export.model.config import ModelConfig
from moedge.export.model.layouts import find_spelling, with_norms_as_stored
from moedge.export.options import ExportOptions
from moedge.export.tokenizer.talking import Talking, read_talking

DEFAULT_CONTEXT = 4096


@dataclass(frozen=True)
class Understood:
    """What config and small files say, once everything is known to be supported."""

    model: ModelConfig
    context: int
    talking: Talking


def understand(source: Checkpoint, options: ExportOptions) -> Understood:
    """Read all but the weights; MoedgeError for a family, a number format or a tokenizer that is not supported."""
    config = Config(source.config, str(source.folder / "config.json"))
    model = read_model_config(config)
    source.rename(find_spelling(source, model.names))
    model = with_norms_as_stored(source, model)
    refuse_unreadable(source, config, model.names.ignored)
    talking = read_talking(source, options.chat_template)
    if outside := [i for i in talking.eos_token_ids if not 0 <= i < model.vocab_size]:
        raise MoedgeError(
            f"{source.folder} ends its answers with token {outside[0]}, but has {model.vocab_size} tokens: correct its "
            "eos_token_id."
        )
    return Understood(model, _context(options, model), talking)


def _context(options: ExportOptions, model: ModelConfig) -> int:
    longest = model.max_position_embeddings
    if options.context is not None and not 1 <= options.context <= longest:
        raise MoedgeError(
            f"--context {options.context} is not within 1 to {longest}, the positions this model was made for."
        )
    return options.context or min(options.device.context if options.device else DEFAULT_CONTEXT, longest)
