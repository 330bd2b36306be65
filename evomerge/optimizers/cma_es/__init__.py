"""CMA-ES with its restarts, covariances and ways with noise."""
