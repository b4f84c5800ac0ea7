"""Losses on the scores that a reranker gives to pairs of texts."""
