"""Training a canonicalizer: the images it learns from, the loop, and `adapt`, which ties them together."""
