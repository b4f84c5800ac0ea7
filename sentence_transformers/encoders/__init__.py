"""The public encoders: what a batch's output means, on top of one shared inference run."""
