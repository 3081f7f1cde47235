"""The tests that every backend passes, on the backend `jax`; run by test_jax.py in a process that may use jax."""

from __future__ import annotations

from mnist_trials.testing import BackendSuite


class TestJax(BackendSuite):
    plugin = "jax"
    precisions = ("fp32", "bf16-mixed", "bf16-true")
    own_models = True
