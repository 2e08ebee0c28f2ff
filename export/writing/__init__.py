"""Bytes that are written once, hashed on the way, can be resumed, and appear all at once."""
