"""What is done with an adapted model over many files: predictions in bulk, and pictures turned upright."""
