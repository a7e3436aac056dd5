"""A classifier as one file for other software, delivered only where it answers as Topwork does."""
