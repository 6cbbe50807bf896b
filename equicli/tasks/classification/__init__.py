"""Image classification: an output is invariant, labels are folder names, a prediction is the largest logit."""
