"""Documents, cut and embedded, and the passages in them that fit a question."""
