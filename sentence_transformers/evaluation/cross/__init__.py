"""Evaluators of rerankers. The public names are rows of the table."""
