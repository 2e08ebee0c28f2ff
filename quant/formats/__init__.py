"""Number formats that checkpoints are published in: their layouts as formulas. Solvers that choose codes are elsewhere."""
