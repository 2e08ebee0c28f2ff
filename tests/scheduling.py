"""How tests ask a scheduler, and wait for it."""

import threading
import time

from fake_engine import FakeEngine

from moedge.runtime.generation import Token
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.ticket import Failed

PARAMS = SamplingParams()
PROMPT = [ord(c) for c in "say it"]


def text_of(ticket):
    events = [event for event in ticket.events(5.0) if event is not None]
    assert all(isinstance(event, Token) for event in events), events
    return "".join(event.text for event in events)


def failure_of(ticket):
    *_, last = ticket.events(5.0)
    assert isinstance(last, Failed)
    return last.error


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


class SlowToBegin(FakeEngine):
    """Says when it begins a generation, and waits there until it may."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.begins, self.may_begin = threading.Event(), threading.Event()

    def generation(self, *arguments):
        self.begins.set()
        assert self.may_begin.wait(30)
        return super().generation(*arguments)
