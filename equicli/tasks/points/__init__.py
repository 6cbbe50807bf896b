"""The task `points`: one class for each point cloud."""
