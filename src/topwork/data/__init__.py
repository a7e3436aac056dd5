"""Which image, which label, which split."""
