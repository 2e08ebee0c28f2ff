"""Checkpoint to bundle: readers, families, graph construction, bundle writing. Never imports torch or flask."""
