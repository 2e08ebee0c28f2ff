"""How well quantized models answer: real weights as mixtures, moedge's bundles and its peers on the same text.

`benchmarks/fidelity.py` is the command. Here: sources of weights and text, the mixtures, the fp32 reference, engines
and quantizers, figures, table and picture. Whatever is fetched or made lies in build/fidelity; none of it is moedge's.
"""
