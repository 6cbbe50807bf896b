"""Tasks: what the data means, how its labels meet the network's outputs, and when a prediction counts as right."""
