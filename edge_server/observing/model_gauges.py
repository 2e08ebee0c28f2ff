"""What is so now of the models in memory, for /metrics: who waits, who is answered, what their caches hold."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.observing.request_log import Record
from moedge.edge_server.service import Service
from moedge.runtime.cache.cache import cache_nbytes
from moedge.runtime.prefixes.counts import PrefixCounts
from moedge.runtime.ticket import Ticket

MODEL = ("gen_ai_request_model",)
PLACED = (*MODEL, "tier")  # "memory" and "disk"; tokens are found in sessions too


class ModelGauges(Collector):
    """Reads at each scrape; `open_records` gives the requests that are being answered."""

    def __init__(self, service: Service, open_records: Callable[[], Sequence[Record]]) -> None:
        self._service = service
        self._open_records = open_records

    def collect(self) -> Iterator[Metric]:
        """Read all of it."""
        models, records = self._service.all_loaded, self._open_records()
        yield from _places(models, records)
        yield from _prefixes({model.name: model.scheduler.prefix_counts for model in models})


def _places(models: Sequence[Loaded], records: Sequence[Record]) -> Iterator[Metric]:
    loaded = GaugeMetricFamily("moedge_model_loaded", "1 for each model that is in memory.", labels=MODEL)
    waiting = GaugeMetricFamily("moedge_requests_queued", "Answers that wait for a place.", labels=MODEL)
    working = GaugeMetricFamily("moedge_requests_running", "Answers that are worked on.", labels=MODEL)
    cache = GaugeMetricFamily(
        "moedge_kv_cache_bytes", "Keys, values and states of the answers that are worked on.", labels=MODEL
    )
    for model in models:
        tickets = [ticket for record in records if record.model == model.name for ticket in record.tickets]
        open_ = [ticket for ticket in tickets if not ticket.finished and not ticket.cancelled]
        running = [ticket for ticket in open_ if ticket.phase != "queued"]
        loaded.add_metric((model.name,), 1)
        waiting.add_metric((model.name,), len(open_) - len(running))
        working.add_metric((model.name,), len(running))
        cache.add_metric((model.name,), sum(_cache_bytes(model, ticket) for ticket in running))
    yield from (loaded, waiting, working, cache)


def _cache_bytes(model: Loaded, ticket: Ticket) -> int:
    engine, length = model.engine, len(ticket.token_ids) + ticket.generated_tokens
    return cache_nbytes(engine.manifest.cache, length, engine.profile.cache_type)


def _prefixes(counts: dict[str, PrefixCounts]) -> Iterator[Metric]:
    """Beginnings of prompts that are kept and need not be read again."""
    size = GaugeMetricFamily("moedge_prefix_cache_bytes", "What is kept of earlier prompts.", labels=PLACED)
    limit = GaugeMetricFamily("moedge_prefix_cache_limit_bytes", "What may be kept.", labels=PLACED)
    blocks = GaugeMetricFamily("moedge_prefix_cache_blocks", "Blocks that are kept.", labels=PLACED)
    evicted = CounterMetricFamily("moedge_prefix_cache_evictions", "Blocks that made room for others.", labels=PLACED)
    hits = CounterMetricFamily("moedge_prefix_cache_hits", "Prompts of which a part was not read again.", labels=MODEL)
    misses = CounterMetricFamily("moedge_prefix_cache_misses", "Prompts that were read whole.", labels=MODEL)
    reused = CounterMetricFamily(
        "moedge_prefix_cache_reused_tokens", "Tokens that were not read again, by where they were.", labels=PLACED
    )
    damaged = CounterMetricFamily(
        "moedge_prefix_cache_damaged_files", "Files that were not as they were written.", labels=MODEL
    )
    for model, each in counts.items():
        tiers = {
            "memory": [each.memory_bytes, each.memory_budget_bytes, each.memory_blocks, each.memory_evictions],
            "disk": [each.disk_bytes, each.disk_budget_bytes, each.disk_blocks, each.disk_evictions],
        }
        for tier, values in tiers.items():
            evicted.add_metric((model, tier), values.pop())
            for family, value in zip((size, limit, blocks), values, strict=True):
                family.add_metric((model, tier), value)
        for tier, tokens in (
            ("session", each.session_tokens),
            ("memory", each.memory_tokens),
            ("disk", each.disk_tokens),
        ):
            reused.add_metric((model, tier), tokens)
        hits.add_metric((model,), each.hits)
        misses.add_metric((model,), each.misses)
        damaged.add_metric((model,), each.disk_rejected)
    yield from (size, limit, blocks, evicted, hits, misses, reused, damaged)
