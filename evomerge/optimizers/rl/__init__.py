"""Policy gradients over sequences of choices."""
