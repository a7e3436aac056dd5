"""Features in, probabilities out: the layers that are trained."""
