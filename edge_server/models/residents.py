"""Which of a server's models are in memory: loaded on demand, one at a time, and let go when idle or in the way.

A request holds a lease on its model from the moment it is given it until its answer is sent; a model with a lease, or
with work, stays. How one is loaded is loading.py's, whether it fits model_room.py's.
"""

import gc
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import resident_bytes, return_freed_memory
from moedge.edge_server.errors import ApiError, unavailable
from moedge.edge_server.models.loaded import Loaded
from moedge.edge_server.models.model_room import ModelRoom, NoRoomForModel
from moedge.edge_server.models.served_models import ServedModel
from moedge.edge_server.replies import POLL_SECONDS, ClientLeft
from moedge.runtime.admission import QueueFull
from moedge.runtime.integrity import OnHashed, say_nothing

log = logging.getLogger(__name__)

LOAD_RETRY_S = 10  # what a client is told that waited for as long as it may
FAILED_RETRY_S = 60  # before a model that could not be loaded is tried again


class Lease:
    """A model that a request has; it stays in memory until `end`, which may be called again."""

    def __init__(self, model: ServedModel, loaded: Loaded, end: Callable[[ServedModel], None]) -> None:
        self.loaded = loaded
        self._model: ServedModel | None = model
        self._end = end

    def end(self) -> None:
        """The request is over."""
        model, self._model = self._model, None
        if model is not None:
            self._end(model)


class Residents:
    """`load` loads a model, in a thread of its own; `load_wait_s` is how long a request waits for it at most.

    A model without work and leases for `unload_after_s` is let go; 0: only when another needs its memory.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        load: Callable[[ServedModel, OnHashed], Loaded],
        room: ModelRoom,
        load_wait_s: float = 60.0,
        unload_after_s: float = 0.0,
    ) -> None:
        self.models = tuple(models)
        self._load = load
        self._room = room
        self._load_wait_s = load_wait_s
        self._unload_after_s = unload_after_s
        self._changed = threading.Condition()  # guards the models' state, and that one moves at a time
        self._closed = False
        if unload_after_s > 0:
            threading.Thread(target=self._unload_idle, name="moedge-idle", daemon=True).start()

    def preload(self, model: ServedModel, on_hashed: OnHashed = say_nothing) -> None:
        """Load a model now, in this thread, beside whatever is there; raises what `load` does."""
        with self._changed:
            model.moving = True
        try:
            self._arrive(model, self._load(model, on_hashed))
        finally:
            self._settle(model)

    def lease(self, model: ServedModel, refuse: Callable[[], None], left: Callable[[], bool]) -> Lease:
        """The model for a request, loaded if it is not; `refuse` raises once no request is taken any more.

        ApiError 503 if it is not there in time, does not fit or cannot be loaded; QueueFull if too many wait for it;
        ClientLeft.
        """
        deadline = time.monotonic() + self._load_wait_s
        with self._changed:
            if model.loaded is None and model.waiting >= model.settings.places:
                raise QueueFull(model.waiting, LOAD_RETRY_S)
            model.waiting += 1
            try:
                while model.loaded is None:
                    refuse()
                    if left():
                        raise ClientLeft
                    self._refuse_failed(model)
                    why = self._try_to_load(model)
                    if time.monotonic() >= deadline:
                        raise unavailable(why or f"{model.name} is being loaded: try again.", "loading")
                    self._changed.wait(POLL_SECONDS)
                model.leases += 1
                return Lease(model, model.loaded, self._end_lease)
            finally:
                model.waiting -= 1

    def close(self) -> None:
        """End what is left; a model that is being loaded ends once it is."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for model in self.models:
            if model.loaded is not None:
                model.loaded.scheduler.close()

    def _try_to_load(self, model: ServedModel) -> str | None:
        """Begin to load it, with the lock held, unless one moves already; why it cannot, if it cannot."""
        if self._closed or any(each.moving for each in self.models):
            return None
        there = [each for each in self.models if each.loaded is not None]
        try:
            victims = self._room.victims(model, there)
        except NoRoomForModel as error:
            return str(error)
        gone = [self._leave(victim) for victim in victims]
        model.moving = True
        threading.Thread(target=self._bring, args=(model, gone), name="moedge-load", daemon=True).start()
        return None

    def _bring(self, model: ServedModel, gone: list[Loaded]) -> None:
        try:
            _let_go(gone)
            began = time.monotonic()
            log.info("loading %s", model.name)
            self._arrive(model, self._load(model, say_nothing))
            log.info("%s is loaded, in %.1f s", model.name, time.monotonic() - began)
        except MoedgeError as error:
            log.error("%s could not be loaded: %s", model.name, error)
            model.failed = time.monotonic()
        except BaseException:  # whoever waits must learn of it
            log.exception("%s could not be loaded", model.name)
            model.failed = time.monotonic()
        finally:
            self._settle(model)

    def _arrive(self, model: ServedModel, loaded: Loaded) -> None:
        with self._changed:
            closed = self._closed
            if not closed:
                model.loaded, model.failed, model.used = loaded, None, time.monotonic()
        if closed:
            loaded.scheduler.close()

    def _settle(self, model: ServedModel) -> None:
        with self._changed:
            model.moving = False
            self._changed.notify_all()

    def _leave(self, model: ServedModel) -> Loaded:
        """Take it out of what requests are given, with the lock held."""
        loaded, model.loaded = model.loaded, None
        assert loaded is not None
        return loaded

    def _end_lease(self, model: ServedModel) -> None:
        with self._changed:
            model.leases -= 1
            model.used = time.monotonic()
            self._changed.notify_all()

    def _refuse_failed(self, model: ServedModel) -> None:
        if model.failed is None:
            return
        left_s = math.ceil(model.failed + FAILED_RETRY_S - time.monotonic())
        if left_s > 0:
            message = f"{model.name} could not be loaded, the server's log says why: it is tried again in {left_s} s."
            headers = {"Retry-After": str(left_s)}
            raise ApiError(503, message, "service_unavailable_error", code="model_failed", headers=headers)

    def _unload_idle(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                due = [each for each in self.models if each.idle and now - each.used >= self._unload_after_s]
                if not due or any(each.moving for each in self.models):
                    self._changed.wait(min(1.0, self._unload_after_s / 4))
                    continue
                model = due[0]
                gone = [self._leave(model)]
                model.moving = True
            try:
                log.info("%s was idle for %g s", model.name, self._unload_after_s)
                _let_go(gone)
            finally:
                self._settle(model)


def _let_go(gone: list[Loaded]) -> None:
    """End these models, which nobody else holds, and give the system their memory back; the list is empty after."""
    before = resident_bytes()
    names = ", ".join(loaded.name for loaded in gone)
    while gone:
        gone.pop().scheduler.close()
    gc.collect()  # an engine may be part of a circle
    return_freed_memory()
    if names:
        log.info("%s is unloaded: %.0f MB resident, %.0f MB before", names, resident_bytes() / 1e6, before / 1e6)
