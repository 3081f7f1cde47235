"""Checkpoints of a training: what each rank gives, written while training goes on, and found again."""
