"""Estimators of a bank's mean score from the answers to a few of its items."""
