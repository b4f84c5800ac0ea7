"""How a network is run: the native engine, or another runtime for what it does not know."""
