"""The tasks of point clouds: `points`, one class for each; `point-parts`, a part for each of its points."""
