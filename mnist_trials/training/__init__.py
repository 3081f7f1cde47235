"""Trials and what trains them: the part of the package that users write against."""
