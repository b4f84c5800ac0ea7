"""Find what is close: exact search over embeddings, and what is built on it."""
