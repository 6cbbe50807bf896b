"""From files to tensors: folders and their splits, decoding, preprocessing, loading in batches."""
