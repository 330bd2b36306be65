"""Designs that learn nothing: random, Sobol points, grids."""
