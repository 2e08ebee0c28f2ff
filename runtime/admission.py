"""Whom the scheduler turns away, and when to come back."""

import math
from collections.abc import Iterable

from moedge.devices.errors import MoedgeError

LONGEST_GUESS_S = 60.0  # of a wait; what runs longer than that already counts for as long as it has run


class QueueFull(MoedgeError):  # noqa: N818 - it is a state of the queue before it is an error
    """No place is free; `retry_after_s` is a guess of when one will be."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"all places are taken and {waiting} requests wait: try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class NotAccepting(MoedgeError):  # noqa: N818 - likewise
    """The scheduler drains or has died."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down: send the request to another one.")


def retry_after_s(waiting: int, places: int, mean_s: float, running_s: Iterable[float]) -> int:
    """In how many whole seconds a place may be free, where so many wait for as many `places` as run at once.

    A request takes `mean_s` seconds; those that run have taken `running_s`, and may well take as long again, of which
    the mean knows nothing before they end.
    """
    wait_s = mean_s * (waiting + 1) / places
    return math.ceil(max(1, min(LONGEST_GUESS_S, wait_s), max(running_s, default=0.0)))
