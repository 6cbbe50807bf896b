"""Canonicalizers: networks that find the pose of an input, their canonicalization networks, and their losses."""
