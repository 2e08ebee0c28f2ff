"""A checkpoint as published: its config, headers and bytes, and its matrices in whatever format they stand there."""
