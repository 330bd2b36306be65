"""The search itself: ask, evaluate, record, tell; budget and resume."""
