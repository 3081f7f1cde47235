"""The suite of backends for `xla`, run by test_xla.py in a process of its own: there is one backend per process."""

from __future__ import annotations

from typing import Any, ClassVar

from mnist_trials.testing import BackendSuite


class TestXla(BackendSuite):
    plugin = "xla"
    options: ClassVar[dict[str, Any]] = {"device": "CPU"}
    precisions = ("fp32", "bf16-mixed", "bf16-true")
