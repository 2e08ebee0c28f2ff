"""Responses that were kept for a later turn: in memory, bounded in count and bytes, the longest unused given up first.

Each owner of a key sees its own alone, and who keeps most gives up first.
"""

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from moedge.edge_server.errors import ApiError
from moedge.edge_server.json_body import MAX_BODY
from moedge.edge_server.replies import Json

MOST_RESPONSES = 1000
MOST_BYTES = 16 << 20  # of JSON; items that several responses share count for each
MOST_READ = MAX_BODY  # bytes of JSON that one request may refer to, instead of sending them


class KeptItem:
    """An item of input or output, as JSON."""

    def __init__(self, item: Json) -> None:
        self.id: str = item["id"]
        self.json = _dumped(item)

    @property
    def item(self) -> Json:
        """A copy of its own."""
        loaded: Json = json.loads(self.json)
        return loaded


@dataclass(frozen=True)
class KeptResponse:
    """A response as its client got it, and the items that it was made of and made."""

    response: bytes
    input: tuple[KeptItem, ...]
    output: tuple[KeptItem, ...]

    @property
    def size(self) -> int:
        """Bytes of JSON."""
        return len(self.response) + sum(len(each.json) for each in (*self.input, *self.output))


class ResponseStore:
    """All that are kept; any thread may call."""

    def __init__(self, most: int = MOST_RESPONSES, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._counts = Counter[str]()  # of each owner's responses
        self._sizes = Counter[str]()  # their bytes
        self._kept: OrderedDict[tuple[str, str], KeptResponse] = OrderedDict()
        self._items: WeakValueDictionary[tuple[str, str], KeptItem] = WeakValueDictionary()
        self._lock = threading.Lock()

    def keep(self, owner: str, response: Json, given: Sequence[Json]) -> None:
        """Keep a response that has ended, with all items that it was given; one of the same id is no more."""
        with self._lock:
            items = [self._item(owner, item) for item in given]
            made = [self._item(owner, item) for item in response["output"]]
            kept = KeptResponse(_dumped(response), tuple(items), tuple(made))
            self._drop(owner, response["id"])
            while self._kept and (len(self._kept) >= self._most or self._sizes.total() + kept.size > self._most_bytes):
                self._give_one_up()
            self._kept[owner, response["id"]] = kept
            self._counts[owner] += 1
            self._sizes[owner] += kept.size

    def find(self, owner: str, response_id: str) -> KeptResponse | None:
        """The response of that id, if the owner has it; it counts as used."""
        with self._lock:
            kept = self._kept.get((owner, response_id))
            if kept is not None:
                self._kept.move_to_end((owner, response_id))
            return kept

    def forget(self, owner: str, response_id: str) -> bool:
        """Keep it no longer; whether it was there."""
        with self._lock:
            return self._drop(owner, response_id)

    def of(self, owner: str) -> "OwnResponses":
        """What one owner sees of them."""
        return OwnResponses(self, owner)

    def item(self, owner: str, item_id: str) -> KeptItem | None:
        """An item of any response of that owner that is kept."""
        with self._lock:
            return self._items.get((owner, item_id))

    def _item(self, owner: str, item: Json) -> KeptItem:
        """The item as it is kept: the one that earlier responses have, if it is the same."""
        fresh = KeptItem(item)
        kept = self._items.get((owner, fresh.id))
        if kept is not None and kept.json == fresh.json:
            return kept
        self._items[owner, fresh.id] = fresh
        return fresh

    def _give_one_up(self) -> None:
        """The one that was unused for longest, of the owner that has most: nobody loses theirs to another's flood."""
        owner = max(
            self._counts, key=lambda each: max(self._counts[each] / self._most, self._sizes[each] / self._most_bytes)
        )
        self._drop(owner, next(response_id for each, response_id in self._kept if each == owner))

    def _drop(self, owner: str, response_id: str) -> bool:
        kept = self._kept.pop((owner, response_id), None)
        if kept is None:
            return False
        self._counts[owner] -= 1
        self._sizes[owner] -= kept.size
        if not self._counts[owner]:
            del self._counts[owner], self._sizes[owner]
        return True


class OwnResponses:
    """The responses of one owner, as one request reads them: a short body may refer to the same long item often."""

    def __init__(self, store: ResponseStore, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._left = MOST_READ

    def context(self, response_id: str) -> list[Json] | None:
        """What a response was given and made, in this order; None if there is none of that id.

        ApiError 400, here and in `item`, if all that the request refers to is more than a body may have.
        """
        kept = self._store.find(self._owner, response_id)
        if kept is None:
            return None
        return [self._read(each, "previous_response_id") for each in (*kept.input, *kept.output)]

    def item(self, item_id: str) -> Json | None:
        """One item of any of them."""
        kept = self._store.item(self._owner, item_id)
        return None if kept is None else self._read(kept, "input")

    def _read(self, kept: KeptItem, field: str) -> Json:
        self._left -= len(kept.json)
        if self._left < 0:
            message = (
                f"{field}: what this request refers to has more than {MOST_READ} bytes: begin a new conversation, or "
                "send what still matters of this one."
            )
            raise ApiError(400, message, param=field)
        return kept.item


def _dumped(data: Json) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
