"""Group-averaged evaluation: every system on the same turned images, equivariance residuals, intervals, cost."""
