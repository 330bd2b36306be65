"""LoRA adapters merged as the low-rank products they are, into an adapter again."""
