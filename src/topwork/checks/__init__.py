"""Is the data sound: copies, wrong labels, strange images, classes out of proportion."""
