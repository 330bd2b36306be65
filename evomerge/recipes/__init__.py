"""How recipes are written to and read from files."""
