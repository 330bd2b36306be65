"""Turn a recipe and its source models into merged weights."""
