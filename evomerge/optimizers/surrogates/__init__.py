"""Optimizers that fit a model of the objectives: MAP and Bayesian optimisation."""
