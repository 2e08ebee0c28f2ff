"""Checkpoints of the hub: what is fetched, what is refused before, and what is said when it fails."""
