"""The cache of one timeline: a buffer for each cache tensor, one file a layout; docs/graph.md describes the layouts."""

from moedge.runtime.cache.cache import Cache

__all__ = ["Cache"]
