"""Where candidates are merged and scored."""
