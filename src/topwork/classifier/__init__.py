"""Backbone + preprocessing + top + class names: what one keeps."""
