"""Canonicalizers of point clouds, for SO(3) and SO(2) about z: one file each, and their line in `registry.SPACE`."""
