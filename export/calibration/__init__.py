"""What real text makes of a layer's activations, and how a layer's matrices are rounded by that."""
