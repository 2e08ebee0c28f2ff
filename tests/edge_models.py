"""Several models over fake engines: what they load from, how much memory they have, and requests in threads."""

import threading
from dataclasses import replace
from pathlib import Path

from fake_engine import FakeEngine

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory
from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.models.model_room import ModelRoom
from moedge.edge_server.models.model_settings import ModelSettings
from moedge.edge_server.models.residents import Residents
from moedge.edge_server.models.served_models import ServedModel
from moedge.edge_server.service import Service
from moedge.runtime.memory_need import MemoryNeed

PROGRAM = 1 << 20


class Shelf:
    """Models by name, each of so many megabytes; `engines` has one for each time that one was loaded.

    While `gate` is cleared no load ends; names in `damaged` do not load.
    """

    def __init__(self, sizes, monkeypatch, megabytes=1000, aliases=(), **settings):
        self.gate = threading.Event()
        self.gate.set()
        self.engines: list[tuple[str, FakeEngine]] = []
        self.damaged: set[str] = set()
        self.answers = {name: ["I", " am ", name] for name in sizes}
        manifest = FakeEngine().manifest
        own = {key: settings.pop(key) for key in ("max_running", "max_queued") if key in settings}
        self.models = [
            ServedModel(name, tuple(aliases), Path(name), replace(manifest, name=name), ModelSettings(**own))
            for name, aliases in zip(sizes, [aliases, *[()] * len(sizes)], strict=False)
        ]

        def need(manifest, sessions, prefill_chunk, cache_type, prefixes):
            return MemoryNeed(sizes[manifest.name] * 10**6, 0, 0, PROGRAM, sessions)

        monkeypatch.setattr("moedge.edge_server.models.model_room.memory_need", need)
        usable = megabytes * 10**6 + PROGRAM
        self.residents = Residents(self.models, self._load, ModelRoom(Memory(usable, usable)), **settings)
        self.service = Service()
        self.service.open_residents(self.residents)
        self.client = create_app(self.service, Guard()).test_client()

    def _load(self, model, on_hashed):
        engine = FakeEngine(lambda prompt: self.answers[model.name])
        self.engines.append((model.name, engine))
        assert self.gate.wait(20)
        if model.name in self.damaged:
            raise MoedgeError(f"Bundle /secret/{model.name} is not intact.")
        return Loaded.over(engine, model.name, model.settings)

    @property
    def there(self):
        return {model.name for model in self.models if model.loaded is not None}

    @property
    def loads(self):
        return [name for name, _ in self.engines]

    def chat(self, **fields):
        """An answer, and its end as a server makes it."""
        body = {"messages": [{"role": "user", "content": "hi"}], **fields}
        return self.client.post("/v1/chat/completions", json=body, buffered=True)

    def close(self):
        self.gate.set()
        for _, engine in self.engines:
            engine.gate.set()
        self.service.close()


class Asking:
    """A request in a thread of its own."""

    def __init__(self, shelf, **fields):
        self._shelf, self._fields = shelf, fields
        self.response = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self):
        self.response = self._shelf.chat(**self._fields)

    def answer(self):
        self._thread.join(20)
        assert self.response is not None, "it has no answer"
        return self.response
