"""A training written down in one file: read and checked (``plan``), then run (``run``)."""
