"""What a prefix cache tells of itself, for metrics."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrefixCounts:
    """What is kept now, and what happened since the start.

    `hits` are prompts of which some tokens were not read again, `misses` the others; the tokens that were not read
    again are counted by where they were: in idle and running sessions, in blocks in memory, or in blocks of which some
    were on disk.
    """

    memory_budget_bytes: int = 0
    memory_bytes: int = 0
    memory_blocks: int = 0
    memory_evictions: int = 0
    disk_budget_bytes: int = 0
    disk_bytes: int = 0
    disk_blocks: int = 0
    disk_evictions: int = 0
    disk_rejected: int = 0  # files that were not as they were written
    hits: int = 0
    misses: int = 0
    session_tokens: int = 0
    memory_tokens: int = 0
    disk_tokens: int = 0
