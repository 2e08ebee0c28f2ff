"""GET /experts: how often each expert was chosen since the model was loaded, for a live picture of the mixture.

The kernels count anyway; this reads, for the page and whoever else asks a few times a second.
"""

import base64

import numpy as np
from flask import Response, request

from moedge.devices.memory import resident_bytes
from moedge.edge_server.fields import one_word
from moedge.edge_server.query import read_query
from moedge.edge_server.replies import Json, json_response
from moedge.edge_server.service import Service
from moedge.runtime.expert_counts import ExpertTotals
from moedge.runtime.manifest import Manifest

ENCODINGS = ("json", "base64")
SHARED = "Several keys share this server: counts would tell of one what another asks."


def read_experts(service: Service, several_keys: bool = False) -> Response:
    """Totals of one model, `?model=` names it; `?encoding=base64` has the counts in one short text.

    With several keys there are none: who asks often enough could tell which experts another one's tokens went to.

    `counts` is [layers, experts]: lists of numbers, or base64 of little-endian uint32, row after row, modulo 2^32. A
    layer is listed once it has run; of a model that is not in memory none is, and it is not loaded for that. `counted`
    is false, and `reason` says why, where nothing counts.
    """
    query = read_query(request, ("model", "encoding"))
    encoding = one_word(query.get("encoding"), "encoding", ENCODINGS) or "json"
    model = service.find(query.get("model"))
    reason, loaded = SHARED if several_keys else _why_not(model.manifest), model.loaded
    counter = None if loaded is None else loaded.engine.program.expert_counts
    totals = None if counter is None or reason else counter.read()
    facts = model.manifest.model
    body: Json = {
        "object": "experts",
        "model": model.name,
        "counted": reason is None,
        "reason": reason,
        "moe_layers": facts.moe_layers,
        "experts": facts.num_experts,
        "experts_per_token": facts.num_experts_per_tok,
        "layers": list(totals.layers) if totals else [],
        "tokens": totals.tokens if totals else 0,
        "counts": _counts(totals, encoding),
        "resident_bytes": resident_bytes(),
    }
    response = json_response(body)
    response.headers["Cache-Control"] = "no-store"
    return response


def _counts(totals: ExpertTotals | None, encoding: str) -> str | list[list[int]]:
    if encoding == "base64":
        rows = b"" if totals is None else totals.counts.astype(np.dtype("<u4")).tobytes()
        return base64.b64encode(rows).decode()
    return [] if totals is None else totals.counts.tolist()


def _why_not(manifest: Manifest) -> str | None:
    """Why nothing counts there, None where the kernels do."""
    if not manifest.model.num_experts:
        return "This model has no experts: every token uses all of it."
    if manifest.experts.plan != "native":
        plan = manifest.experts.plan
        return f"Experts are counted in bundles of the native plan only, and this one is of the {plan} plan."
    return None
