"""One file a family, named after its `model_type`: data and names, no mathematics."""
