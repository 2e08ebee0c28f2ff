"""What rounding each group of each layer does to a model's answers, and the plan that follows for a target."""
