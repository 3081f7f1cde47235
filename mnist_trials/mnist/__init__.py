"""Data, models and trials of the MNIST references, written on the public API alone, as a user's own would be."""
