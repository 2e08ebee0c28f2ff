"""Tokens over HTTP: routes, wire formats, limits. Knows the runtime's words, never a tensor."""
