"""What real text makes of a layer's activations, and how matrices are rounded by that; mix/ is a text of our own."""
