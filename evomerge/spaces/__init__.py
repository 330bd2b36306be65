"""What may vary: typed genes, and how a genome becomes a recipe."""
