"""The cache of one timeline: a buffer for each cache tensor, one file a layout; docs/graph.md describes the layouts.

Timelines whose caches lie in one arena can be run together.
"""

from moedge.runtime.cache.arena import Arena
from moedge.runtime.cache.cache import Cache

__all__ = ["Arena", "Cache"]
