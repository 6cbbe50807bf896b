"""Prediction networks for point clouds, written from their papers: PointNet and DGCNN."""
