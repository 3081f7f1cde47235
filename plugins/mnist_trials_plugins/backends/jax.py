"""The backend `jax`: trials written in JAX or Flax, on CPUs, GPUs, or whatever jax has a plugin for.

    backend: jax
    backend: {name: jax, platform: cuda}
    backend: {name: jax, platform: tt, env: {TT_LOG: info}}

One process drives all devices of a trial.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Final, final

from typing_extensions import override

from mnist_trials.config import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.plugin import (
    Backend,
    Execution,
    ExecutionSettings,
    Options,
    PluginRecord,
    hookimpl,
    refuse_unknown,
)
from mnist_trials.records import Slot
from mnist_trials_plugins.backends._shared import core_shares, cores, thread_variables
from mnist_trials_plugins.backends.cuda import CudaBackend

_LIBRARIES: Final = ("jax", "flax", "optax")
_DEVICES: Final = "xla_force_host_platform_device_count"
_SECONDS: Final = 120.0


@final
class JaxBackend(Backend):
    """Slots are shares of the cores (`platform: cpu`, the default), CUDA devices, or the devices that jax finds.

    Options:
        platform: cpu, cuda, or any other name that jax knows a platform by (tpu, or that of a PJRT plugin).
        env: variables for the worker, beside those that the platform needs.

    Raises:
        PluginError: an option is unknown, or not what it must be.
    """

    def __init__(self, options: Options) -> None:
        refuse_unknown("the backend 'jax'", options, ("platform", "env"))
        platform, env = options.get("platform", "cpu"), options.get("env") or {}
        if not isinstance(platform, str) or not platform or "," in platform:
            raise PluginError(f"backend.platform is the name of one platform, such as cpu or cuda, not {platform!r}.")
        if not isinstance(env, Mapping) or not all(isinstance(value, str | int | float) for value in env.values()):
            raise PluginError(f"backend.env is a map of variables and their text, not {env!r}.")
        self._platform = {"gpu": "cuda"}.get(platform, platform)
        self._env = {str(name): str(value) for name, value in env.items()}
        self._cuda = CudaBackend({})

    @property
    @override
    def one_process(self) -> bool:
        return True

    @property
    @override
    def own_models(self) -> bool:
        return True

    @override
    def slots(self, count: int | None) -> tuple[Slot, ...]:
        if self._platform == "cpu":
            return tuple(_share_of_cores(index, threads) for index, threads in enumerate(core_shares(count)))
        if self._platform == "cuda":
            devices = [(slot.id, slot.description) for slot in self._cuda.slots(None)]
        else:
            devices = [(f"{self._platform}:{index}", name) for index, name in enumerate(self._ask_jax())]
        wanted = len(devices) if count is None else count
        if wanted > len(devices) or wanted < 0:
            raise PluginError(f"jax has {len(devices)} devices of the platform '{self._platform}' here, not {wanted}.")
        threads = max(1, cores() // max(1, wanted))
        return tuple(
            Slot(id=name, backend="jax", index=index, description=description, threads=threads)
            for index, (name, description) in enumerate(devices[:wanted])
        )

    def _ask_jax(self) -> list[str]:
        """The devices that jax finds on another platform, asked for in a process of its own."""
        code = "import jax; print(*(device.device_kind for device in jax.local_devices()), sep='\\n')"
        environment = {**os.environ, "JAX_PLATFORMS": self._platform, **self._env}
        try:
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", code],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PluginError(
                f"jax did not say within {_SECONDS:.0f} s which devices of the platform '{self._platform}' there are."
            ) from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PluginError(f"jax has no platform '{self._platform}' here: {reason}")
        return done.stdout.splitlines()

    @override
    def environment(self, slots: Sequence[Slot]) -> Mapping[str, str]:
        variables = thread_variables(sum(slot.threads for slot in slots))
        if self._platform == "cpu":
            variables |= {"JAX_PLATFORMS": "cpu", "NPROC": str(sum(slot.threads for slot in slots))}
            flags = self._env.get("XLA_FLAGS", os.environ.get("XLA_FLAGS", "")).split()
            kept = [flag for flag in flags if not flag.startswith(f"--{_DEVICES}=")]
            return {**variables, **self._env, "XLA_FLAGS": " ".join([*kept, f"--{_DEVICES}={len(slots)}"])}
        variables["JAX_PLATFORMS"] = f"{self._platform},cpu"
        if self._platform == "cuda":
            variables |= self._cuda.environment(slots)
        return {**variables, **self._env}

    @override
    def stand_in(self) -> PluginChoice | None:
        return None if self._platform == "cpu" else PluginChoice("jax", {"platform": "cpu"})

    @override
    def missing(self, operations: Sequence[str]) -> Sequence[str]:
        if self._platform == "cpu":
            return ()  # they were lowered for it here
        if (reason := why_not()) is not None:
            raise PluginError(f"The backend 'jax' cannot be asked: {reason}.")
        from mnist_trials_plugins.backends._jax.lowered import without_lowering

        return without_lowering(operations, self._platform)

    @override
    def open(self, settings: ExecutionSettings) -> Execution:
        if (reason := why_not()) is not None:
            raise PluginError(f"The backend 'jax' cannot be used: {reason}.")
        for name, value in self.environment(settings.slots).items():  # no effect where a launcher has set them
            os.environ.setdefault(name, value)
        from mnist_trials_plugins.backends._jax.execution import JaxExecution

        return JaxExecution(settings)


def _share_of_cores(index: int, threads: int) -> Slot:
    return Slot(
        id=f"jax:{index}",
        backend="jax",
        index=index,
        description=f"CPU for jax, {threads} core{'s' * (threads != 1)}",
        threads=threads,
        shares_cores=True,
    )


def why_not() -> str | None:
    """Why jax cannot be used here; None where it can be."""
    absent = [library for library in _LIBRARIES if find_spec(library) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed (pip install 'mnist-trials[jax]')"


@hookimpl
def mnist_trials_backends() -> Iterable[PluginRecord[Backend]]:
    """The plugin's record."""
    return [PluginRecord("jax", "JAX and Flax trials on CPU, GPU or TPU", JaxBackend, why_not)]
