"""Our own encoder: a table of families, weights read as data, one forward over packed tokens."""
