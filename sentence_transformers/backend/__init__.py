"""How a network is run: the native engine, or another runtime. The public names are rows of the table."""

from sentence_transformers._lazy import publish

publish(__name__)
