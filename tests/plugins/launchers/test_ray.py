"""The launcher `ray`: the suite, on a real cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from mnist_trials.testing import LauncherSuite


@pytest.mark.usefixtures("on_ray")
class TestRay(LauncherSuite):
    plugin = "ray"
    options: ClassVar[Mapping[str, Any]] = {"address": "auto", "cpus_per_slot": 0.5}
