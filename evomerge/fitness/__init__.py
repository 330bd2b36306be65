"""From a model in memory to item responses, and from those to objectives."""
