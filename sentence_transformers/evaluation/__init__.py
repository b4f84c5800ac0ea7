"""Evaluators: how good a model is on data of its own. The public names are rows of the table."""

from sentence_transformers._lazy import publish

publish(__name__)
