"""The optimizers of the nevergrad library."""
