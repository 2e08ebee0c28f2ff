"""How the makers of models write thinking and tool calls: one file a format, each a grammar as data."""
