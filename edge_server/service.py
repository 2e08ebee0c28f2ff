"""What stands behind the routes: the models, and whether the server is starting, ready or draining."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flask import Response, after_this_request, has_request_context, request

from moedge.edge_server.errors import ApiError, unavailable
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.models.model_room import ModelRoom
from moedge.edge_server.models.model_settings import ModelSettings
from moedge.edge_server.models.residents import Lease, Residents
from moedge.edge_server.models.served_models import ServedModel, find_model
from moedge.edge_server.replies import client_left
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.engine import Engine
from moedge.runtime.integrity import OnHashed

NO_WISHES = Wishes()


class Service:
    """Starts out loading; `open_residents` and `open` make it ready, `stop_accepting` draining."""

    def __init__(self) -> None:
        self._residents: Residents | None = None
        self.draining = False

    def open_residents(self, residents: Residents) -> None:
        """Serve these models from now on, those that are not in memory yet once they are asked for."""
        self._residents = residents

    def open(
        self,
        engine: Engine,
        max_running: int = 2,
        max_queued: int = 16,
        stalled_after_s: float = 600.0,
        wishes: Wishes = NO_WISHES,
        prompt_lookup_num_tokens: int = 0,
    ) -> None:
        """Serve this engine alone from now on; see ModelSettings for the bounds.

        MoedgeError if there are too many guesses, or if the model's template knows nothing of a variable in `wishes`.
        """
        settings = ModelSettings(
            max_running=max_running,
            max_queued=max_queued,
            stalled_after_s=stalled_after_s,
            wishes=wishes,
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        )
        model = ServedModel(engine.manifest.name, (), Path(), engine.manifest, settings)
        model.loaded = Loaded.over(engine, model.name, settings)
        self.open_residents(Residents([model], _cannot_load, ModelRoom()))

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All that requests may name, in memory or not, the default first; ApiError 503 while the server starts."""
        return self._open().models

    @property
    def all_loaded(self) -> tuple[Loaded, ...]:
        """Every model that is in memory now; none while the server starts."""
        models = self._residents.models if self._residents is not None else ()
        return tuple(loaded for model in models if (loaded := model.loaded) is not None)

    def find(self, name: str | None) -> ServedModel:
        """The model of this name or alias, the default for None; ApiError 404 if there is none, 503 while starting."""
        return find_model(self.models, name)

    def loaded_now(self, name: str | None = None) -> Loaded:
        """The model of this name as it is in memory, to look at; ApiError 404 as of `find`, 503 if it is not there.

        It is not loaded for that, and may leave at any time.
        """
        model = self.find(name)
        loaded = model.loaded
        if loaded is None:
            raise unavailable(f"{model.name} is not in memory: a request for an answer loads it.", "model_not_loaded")
        return loaded

    @property
    def loaded(self) -> Loaded:
        """The default model, likewise."""
        return self.loaded_now()

    @property
    def alive(self) -> bool:
        """Whether a restart would not help."""
        return all(loaded.scheduler.healthy for loaded in self.all_loaded)

    @property
    def idle(self) -> bool:
        """Whether no request is being worked on."""
        return all(loaded.scheduler.idle for loaded in self.all_loaded)

    def ready(self) -> None:
        """Return if a request that is sent now would be taken; ApiError 503 if not."""
        self._refuse_draining()
        _refuse_dead(self.models[0].loaded)

    def ready_for(self, body: Mapping[str, Any]) -> Loaded:
        """What takes the request of this body: the model that it names, or the default; loaded first if it is not.

        It stays in memory until the answer has been sent. ApiError 404 if there is none of that name, 503 if no request
        is taken or the model is not loaded in time; QueueFull if too many wait for it; ClientLeft.
        """
        self._refuse_draining()
        name = body.get("model")
        model = self.find(name if isinstance(name, str) else None)  # whatever else it is, its endpoint refuses
        left: Callable[[], bool] = client_left(request) if has_request_context() else lambda: False
        lease = self._open().lease(model, self._refuse_draining, left)
        if has_request_context():
            after_this_request(lambda response: _end_with(response, lease))
        else:
            lease.end()
        _refuse_dead(lease.loaded)
        return lease.loaded

    def stop_accepting(self) -> None:
        """Drain: what was accepted goes on. Takes no lock, so a signal handler may call it."""
        self.draining = True
        for loaded in self.all_loaded:
            loaded.scheduler.stop_accepting()

    def close(self) -> None:
        """End what is left."""
        self.draining = True
        if self._residents is not None:
            self._residents.close()

    def _open(self) -> Residents:
        if self._residents is None:
            raise unavailable("The model is being loaded.", "loading")
        return self._residents

    def _refuse_draining(self) -> None:
        if self.draining:
            raise unavailable("The server is shutting down.", "shutting_down")


def _refuse_dead(loaded: Loaded | None) -> None:
    if loaded is not None and not loaded.scheduler.healthy:
        raise unavailable("The engine has stopped.", "engine_failed")


def _end_with(response: Response, lease: Lease) -> Response:
    response.call_on_close(lease.end)
    return response


def _cannot_load(model: ServedModel, on_hashed: OnHashed) -> Loaded:
    raise ApiError(503, f"{model.name} is gone.", "service_unavailable_error", code="model_not_loaded")
