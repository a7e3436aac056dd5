"""Vectors, once per image: extraction, and the store that keeps them."""
