"""From a folder of unlabelled images to a classifier, on a page in the browser."""
