"""Tensors to codes and back: schemes, packing, fidelity measures. numpy only; no files, no graphs."""
