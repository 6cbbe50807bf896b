"""Point clouds: reading files of any usual kind, and preparing what they hold for a network."""
