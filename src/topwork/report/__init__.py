"""What a person reads about a training: one self-contained HTML file."""
