"""Losses: what is optimised. The public names are rows of the table."""

from sentence_transformers._lazy import publish

publish(__name__)
