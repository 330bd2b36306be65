"""Item response theory: items with parameters, models with abilities, and what both predict."""
