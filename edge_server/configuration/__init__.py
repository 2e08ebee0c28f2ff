"""Options of `serve` by flag, environment and file."""
