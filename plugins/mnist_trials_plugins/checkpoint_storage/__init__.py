"""Places where checkpoints lie, one file each."""
