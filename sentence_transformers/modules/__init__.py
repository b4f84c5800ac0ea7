"""The parts of a model: features in, features out."""
