"""Greedy soups of the sources."""
