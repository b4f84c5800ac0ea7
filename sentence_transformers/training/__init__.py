"""Training on columns of texts: arguments, batches, the trainer, and the older ways to the same end."""
