"""GET /props: what a model is and how it is served, for clients that adapt to it; GET /health, llama.cpp's probe.

Names are ours, and beside them those that llama.cpp's clients read. No path of this machine is told.
"""

from functools import cache
from importlib.metadata import version

from flask import Response, request

from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.models.model_settings import SAMPLING_DEFAULTS
from moedge.edge_server.models.served_models import ServedModel
from moedge.edge_server.query import read_query
from moedge.edge_server.replies import Json, json_response
from moedge.edge_server.service import Service
from moedge.runtime.chat.formats import calls_tools
from moedge.runtime.chat.thought_tags import thought_tags
from moedge.runtime.manifest import TEMPLATE_NAME


def show_health(service: Service) -> Response:
    """200 if a request would be taken, 503 while the model is loaded or the server drains, as /readyz."""
    service.ready()
    return json_response({"status": "ok"})


def show_props(service: Service) -> Response:
    """The default model, or the one that `?model=` names; ApiError 503 if that one is not in memory."""
    name = read_query(request, ("model",)).get("model")
    model = service.find(name)
    return json_response(_describe(service, model, service.loaded_now(name)))


def _describe(service: Service, model: ServedModel, loaded: Loaded) -> Json:
    manifest, engine, settings = model.manifest, loaded.engine, model.settings
    facts = manifest.model
    chats, kept = engine.has_chat_template, loaded.scheduler.prefix_counts
    sampling = {name: getattr(loaded.defaults, name) for name in SAMPLING_DEFAULTS}
    return {
        "model": model.name,
        "aliases": list(model.aliases),
        "models": [each.name for each in service.models],
        "moedge_version": _version(),
        "model_type": facts.model_type,
        "context_length": facts.context_length,
        "vocab_size": facts.vocab_size,
        "layers": facts.num_hidden_layers,
        "moe_layers": facts.moe_layers,
        "experts": facts.num_experts,
        "experts_per_token": facts.num_experts_per_tok,
        "total_parameters": facts.total_parameters,
        "active_parameters": facts.active_parameters,
        "scheme": manifest.scheme,
        "plan": manifest.experts.plan,
        "expert_bits": manifest.experts.bits,
        "device_profile": engine.profile.name,
        "cache_type": engine.profile.cache_type,
        "max_running": settings.max_running,
        "max_queued": settings.max_queued,
        "runs_together": engine.program.batches,
        "has_chat_template": chats,
        "chat_format": facts.chat_format if chats else None,
        "thinks": chats and thought_tags(facts.chat_format, "") is not None,
        "calls_tools": chats and calls_tools(facts.chat_format) and engine.shows_tools,
        "sampling_defaults": sampling,
        "prefix_cache": {
            "memory_bytes": kept.memory_bytes,
            "memory_limit_bytes": kept.memory_budget_bytes,
            "disk_bytes": kept.disk_bytes,
            "disk_limit_bytes": kept.disk_budget_bytes,
        },
        # llama.cpp's
        "default_generation_settings": {"n_ctx": facts.context_length, "params": sampling},
        "total_slots": settings.max_running,
        "model_alias": model.name,
        "model_path": model.name,
        "chat_template": _template(loaded) if chats else None,
        "modalities": {"vision": False, "audio": False},
        "build_info": f"moedge {_version()}",
    }


def _template(loaded: Loaded) -> str | None:
    try:
        return (loaded.engine.folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    except OSError:  # a loaded bundle needs its small files no more; they may be gone
        return None


@cache
def _version() -> str:
    return version("moedge")
