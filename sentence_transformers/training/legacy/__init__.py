"""Training as it was before version 3: ``fit``, examples, data loaders, readers of files."""
