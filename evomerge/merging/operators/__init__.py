"""Merge operators: pure functions on the tensors of one parameter."""
