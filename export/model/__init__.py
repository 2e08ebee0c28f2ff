"""What a model is, as values; nothing here reads a file or builds a graph."""
