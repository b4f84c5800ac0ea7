"""Where embeddings are kept and found again: one contract (``base``), one file for each place."""
