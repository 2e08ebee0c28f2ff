"""The exact fp32 model, run one layer at a time from its checkpoint."""
