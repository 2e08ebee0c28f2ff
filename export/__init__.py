"""Checkpoint to bundle: readers, families, graph construction, bundle writing. Never imports torch or flask."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # runtime/__init__.py says why
