"""Shared by all tests."""

import pytest

# The conformance suites are shipped in the package; their assertions should explain themselves like any test's.
pytest.register_assert_rewrite("mnist_trials.testing")
