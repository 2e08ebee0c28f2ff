"""Anthropic's Messages API: bodies, turns, events, errors."""
