"""Measurements against the reference implementation: ``python -m benchmarks``. One file a question."""
