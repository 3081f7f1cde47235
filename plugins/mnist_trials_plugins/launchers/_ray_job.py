"""A controller as a Ray job."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mnist_trials.errors import PluginError
from mnist_trials_plugins.launchers._ray_cluster import Cluster

_NOT_YET: Final = "No available agent"
_PATIENCE_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0
_LITTLE: Final = 0.001  # of the resource that stands for a node itself: enough to be placed there


def submit_job(cluster: Cluster, command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Have the cluster run `command` on the very node that this process runs on, whose files it sees.

    Returns what to call it. Ray ends it when the cluster ends; `ray job stop` sends it SIGTERM.

    Raises:
        PluginError: the cluster runs no jobs, or did not take this one.
    """
    if not cluster.dashboard:
        raise PluginError(
            f"{cluster.name[:1].upper()}{cluster.name[1:]} has no dashboard, and without one it takes no jobs. Start "
            "it with `ray start --head --include-dashboard=true` (pip install 'ray[default]'), or leave out --detach."
        )
    from ray.job_submission import JobSubmissionClient

    url = f"http://{cluster.dashboard}"

    def submit() -> str:
        job: str = JobSubmissionClient(url).submit_job(
            entrypoint=shlex.join(command),
            runtime_env={"env_vars": dict(environment)},
            entrypoint_resources={f"node:{cluster.address}": _LITTLE},
        )
        return f"Ray job {job}"

    try:
        return _patiently(submit)
    except Exception as error:  # what Ray raises here differs by version: ConnectionError, RuntimeError
        raise PluginError(
            f"The Ray dashboard at {url} did not take the job: {type(error).__name__}: {error}"
        ) from error


def _patiently(submit: Callable[[], str]) -> str:
    """Call `submit` again while the cluster says that it has only just been started."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return submit()
        except RuntimeError as error:
            if _NOT_YET not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_SECONDS)
