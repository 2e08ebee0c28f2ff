"""Number formats that checkpoints are published in, as formulas; what chooses codes itself is elsewhere."""
