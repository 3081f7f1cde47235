"""Shared by all tests."""

import signal

import pytest

# The conformance suites are shipped in the package; their assertions should explain themselves like any test's.
pytest.register_assert_rewrite("mnist_trials.testing")

# A shell that starts the tests in the background has them ignore Ctrl-C, and all processes they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
