"""A model in operators: layers as blocks, and the two lowerings that write them in ONNX."""
