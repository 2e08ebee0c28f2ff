"""GET /metrics: what the server did, in Prometheus' text format, by the names of OpenTelemetry's GenAI conventions.

Nothing is counted while tokens are made: when a request has ended, its record and its tickets tell all of it. What is
so at this moment (queue, memory, heat) is read when somebody asks.
"""

from collections.abc import Iterable, Sequence
from threading import Lock
from weakref import WeakSet

from flask import Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from moedge.edge_server.guard import OPEN_PATHS
from moedge.edge_server.observing.hardware_gauges import HardwareCollector
from moedge.edge_server.observing.model_gauges import ModelGauges
from moedge.edge_server.observing.request_log import Record
from moedge.edge_server.query import read_query
from moedge.edge_server.service import Service

PROVIDER = "moedge"
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
}
CLIENT_LEFT = "client_left"

# The conventions' own, and beyond them what a small machine needs.
DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 320.0),
)
OUTPUT_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)

OPERATION_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class Metrics:
    """The counts of one application since it began; every number belongs to it alone. Any thread may call."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry(auto_describe=True)  # so that `name[]` finds what the collectors below tell
        self._open: WeakSet[Record] = WeakSet()
        self._lock = Lock()
        self._duration = self._histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request to the last byte of its answer; error_type is empty where nothing failed.",
            DURATIONS,
            "error_type",
        )
        self._first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request to its first token, of answers that succeeded.",
            FIRST_TOKEN,
        )
        self._output_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Between two tokens after the first, the mean of an answer, of answers that succeeded.",
            OUTPUT_TOKEN,
        )
        self._tokens = self._histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request: input, of those the cached ones that were not computed again, and output.",
            TOKENS,
            "gen_ai_token_type",
        )
        self._rejected = Counter(
            "moedge_requests_rejected",
            "Requests of any route that were answered with an error before a model worked on them.",
            ("reason",),
            registry=self.registry,
        )
        self._cancelled = Counter(
            "moedge_requests_cancelled",
            "Answers whose client had left, by how far they had come.",
            ("phase",),
            registry=self.registry,
        )
        for phase in ("queued", "prefill", "decode"):
            self._cancelled.labels(phase)
        self.registry.register(ProcessCollector(registry=None))
        self.registry.register(HardwareCollector())
        self.registry.register(ModelGauges(service, self.open_records))

    def _histogram(self, name: str, told: str, buckets: Sequence[float], *labels: str) -> Histogram:
        """Of operations, by these labels too."""
        return Histogram(name, told, (*OPERATION_LABELS, *labels), buckets=buckets, registry=self.registry)

    def begin(self, record: Record) -> None:
        """A request has come."""
        with self._lock:
            self._open.add(record)

    def end(self, record: Record, status: int) -> None:
        """It has been answered, or its client has left."""
        with self._lock:
            self._open.discard(record)
        left = record.left(status)
        if left:
            for ticket in record.tickets:
                if not ticket.finished:
                    self._cancelled.labels(ticket.phase).inc()
        elif status >= 400 and not record.tickets and record.path not in OPEN_PATHS:
            self._rejected.labels(record.error_type or str(status)).inc()
        operation = OPERATIONS.get(record.path)
        if operation is None or record.method != "POST":
            return
        labels = (operation, PROVIDER, record.model)
        error_type = CLIENT_LEFT if left else record.error_type
        self._duration.labels(*labels, error_type).observe(record.seconds)
        if (tokens := record.tokens) is not None:
            self._tokens.labels(*labels, "input").observe(tokens.prompt)
            self._tokens.labels(*labels, "cached").observe(tokens.cached)
            self._tokens.labels(*labels, "output").observe(tokens.generated)
            if not error_type:
                self._observe_times(record, labels)

    def _observe_times(self, record: Record, labels: Iterable[str]) -> None:
        timings = [ticket.timings for ticket in record.tickets]
        ran = [each for each in timings if each.generated_tokens]
        if ran:
            before = record.accepted - record.began
            first = min(each.queued_ms + each.prompt_ms for each in ran)
            self._first_token.labels(*labels).observe(before + first / 1000)
        for each in ran:
            if each.generated_tokens > 1:
                mean = each.generated_ms / (each.generated_tokens - 1)
                self._output_token.labels(*labels).observe(mean / 1000)

    def open_records(self) -> list[Record]:
        """The requests that are being answered."""
        with self._lock:
            return list(self._open)


def show_metrics(metrics: Metrics, request: Request) -> Response:
    """The text of a scrape, in OpenMetrics where that is asked for; `name[]` picks series, as in Prometheus' client."""
    read_query(request, (), ("name[]",))
    names = request.args.getlist("name[]")
    registry = metrics.registry.restricted_registry(names) if names else metrics.registry
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        text = encode(registry)
    except (TypeError, ValueError):  # of a version or an escaping that is none
        encode, content_type = choose_encoder("")
        text = encode(registry)
    response = Response(text, content_type=content_type)
    response.headers["Cache-Control"] = "no-store"
    return response
