"""A model in operators: layers as blocks, and the lowerings that write them in ONNX."""
