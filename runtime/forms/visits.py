"""How often the schemas of one tool are looked at: references let a short text say an endless lot."""

from moedge.devices.errors import MoedgeError

MOST_VISITS = 20_000


class Visits:
    """A count of schemas that were looked at, each time anew."""

    def __init__(self) -> None:
        self._left = MOST_VISITS

    def count(self) -> None:
        """One more; MoedgeError if there were too many."""
        self._left -= 1
        if self._left < 0:
            raise MoedgeError("its schemas refer to one another too often")
