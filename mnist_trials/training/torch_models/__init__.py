"""Torch modules and what trains them, batch by batch."""
