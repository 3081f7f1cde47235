"""Captured programs: whole steps as static graphs of named tensors, compiled, run, saved and reused.

A program is captured by tracing a function once, with tensors that have shapes and no values. From then on nothing of
Python is left in it: it takes the tensors it was captured for, changes its own state in place, and gives named outputs.
docs/programs.md tells how, and why it is done so.
"""
