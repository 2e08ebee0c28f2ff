"""From a bundle to a model in memory that answers."""

from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.models.served_models import ServedModel
from moedge.runtime.chat.formats import calls_tools
from moedge.runtime.engine import Engine
from moedge.runtime.integrity import OnHashed, say_nothing


def load_model(model: ServedModel, on_hashed: OnHashed = say_nothing) -> Loaded:
    """The model with a scheduler of its own, as its settings say; MoedgeError as of Engine.load and Loaded.over."""
    settings = model.settings
    engine = Engine.load(
        model.folder,
        settings.device,
        sessions=settings.max_running,
        allow_slow=settings.allow_slow,
        allow_low_memory=settings.allow_low_memory,
        check_hashes=settings.check_hashes,
        on_hashed=on_hashed,
    )
    if calls_tools(engine.manifest.model.chat_format):  # while it is read, all threads of Python stand still
        engine.grammars.read_ahead()
    return Loaded.over(engine, model.name, settings)
