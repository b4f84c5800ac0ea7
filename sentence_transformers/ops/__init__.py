"""Tensor mathematics on plain tensors: no model, no file, no network."""
