"""What prompts begin with, kept in memory and on disk so that it is not read again; docs/prefix_cache.md says how."""
