"""Before anything is exported: whether a device will hold a model and how fast it will answer. The verb `plan`.

The one room beside evaluation/ that knows `runtime`: what it plans is what `run` and `serve` will do.
"""
