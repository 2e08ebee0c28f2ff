"""moedge beside llama.cpp, onnxruntime-genai and transformers on the same weights: what benchmarks/peers.py runs.

Weights are numbers that a name and a seed determine (weights.py), so that each engine gets the same ones in its own
format; nothing here decides how fast moedge is.
"""
