"""The rule of which checkpoints are kept, as cases: for the policy alone, and for experiments."""

from __future__ import annotations

METRICS = {3: 0.6, 4: 0.5, 5: 0.4, 7: 0.2, 8: 0.3}
"""Checkpoints 1 to 5 are of trial 1, 6 to 10 of trial 2; those without a value are not validated."""

CASES = [
    ((0, 0, 0), set()),
    ((2, 0, 0), {7, 8}),
    ((0, 1, 0), {5, 7}),
    ((0, 0, 1), {5, 10}),
    ((0, 0, 3), {3, 4, 5, 8, 9, 10}),
    ((2, 1, 0), {5, 7, 8}),
    ((0, 1, 1), {5, 7, 10}),
    ((2, 1, 1), {5, 7, 8, 10}),
]
"""(save_experiment_best, save_trial_best, save_trial_latest) and what is left of them in the end."""
