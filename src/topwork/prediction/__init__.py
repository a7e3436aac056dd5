"""Answers for many images: from what a person names to a table, again where it stopped, or as images arrive."""
