"""How well a bundle keeps to its checkpoint: the one room of this stage that runs what `moedge.runtime` serves."""
