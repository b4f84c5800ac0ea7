"""The version of the distribution, and nothing else: pyproject.toml reads it without importing anything."""

__version__ = "7.0.0"
