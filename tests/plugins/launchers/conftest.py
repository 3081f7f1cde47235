from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.plugins.launchers.ray_cluster import RayCluster, shared


@pytest.fixture
def on_ray(monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """A Ray cluster that is what `address: auto` finds."""
    if find_spec("ray") is None:  # not imported here: `shared` sets a variable before that
        pytest.skip("needs Ray: pip install 'mnist-trials[ray]'")
    cluster = shared()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return cluster
