"""Counts what XLA compiles in this process, and how long that takes."""

from __future__ import annotations

from typing import Final, final

import jax.monitoring

_EVENT: Final = "/jax/core/compile/backend_compile_duration"


@final
class Compilations:
    """Programs that this process has compiled since this object was made."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _EVENT:
            self.count += 1
            self.seconds += duration_secs

    def close(self) -> None:
        """Count no more."""
        jax.monitoring.unregister_event_duration_listener(self._listen)
