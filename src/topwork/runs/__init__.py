"""One training, from images to a folder that says all about it."""
