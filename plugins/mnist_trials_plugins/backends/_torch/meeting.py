"""How the processes of a trial find each other, and who is named when some do not come."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from datetime import timedelta
from urllib.parse import unquote, urlsplit

import torch.distributed as dist
from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store

from mnist_trials.errors import PluginError, RanksMissing
from mnist_trials.plugin import Layout
from mnist_trials_plugins.backends._torch.quiet import without_greetings

PATIENCE = timedelta(days=1)
"""Of a collective: a trial may be held for hours, and the watchdog ends what is stuck."""

_POLL = 0.02  # seconds
_GAVE_UP = "gave up"
_MEETINGS = Counter[str]()  # by rendezvous, in this process: a script may open a device, close it and open it again


def meet(layout: Layout, backend: str) -> None:
    """Make the default process group, of torch's kind `backend`, out of all processes of `layout`.

    Every rank leaves a note in the store at the rendezvous and waits for those of all others; so whoever waits too long
    can say who is missing, which the constructors of torch's process groups cannot.

    Raises:
        PluginError: the rendezvous is no URL that can be used.
        RanksMissing: some ranks did not come within `layout.start_seconds`.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store outlives the ranks that it restarts
    store = PrefixStore(f"mnist-trials/{attempt}/{_MEETINGS[layout.rendezvous]}", _store(layout))
    _MEETINGS[layout.rendezvous] += 1
    try:
        store.set(str(layout.rank), f"rank {layout.rank} ({socket.gethostname()}, pid {os.getpid()})")
        _wait_for_all(store, layout)
    except dist.DistError as error:
        raise RanksMissing(f"Rank {layout.rank} of {layout.size} met rank 0, which has ended since: {error}") from error
    with without_greetings():
        dist.init_process_group(
            backend, store=PrefixStore("group", store), rank=layout.rank, world_size=layout.size, timeout=PATIENCE
        )


def _store(layout: Layout) -> Store:
    url = urlsplit(layout.rendezvous)
    if url.scheme == "file" and url.path:
        return FileStore(unquote(url.path), layout.size)
    if url.scheme == "tcp" and url.hostname and url.port:
        host, port, hosts = url.hostname, url.port, layout.rank == 0
    elif url.scheme == "env":
        host, port = _address_in_environment()
        hosts = layout.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    else:
        raise PluginError(
            f"The rendezvous of {layout.size} ranks is {layout.rendezvous!r}. It can be file:///PATH, tcp://HOST:PORT "
            "or env://."
        )
    try:
        return TCPStore(
            host,
            port,
            layout.size,
            is_master=hosts,
            timeout=timedelta(seconds=layout.start_seconds),
            wait_for_workers=False,
            # Our own socket listens on this address alone; one of torch's would listen on every address there is.
            master_listen_fd=socket.create_server((host, port)).detach() if hosts else None,
        )
    except (dist.DistError, OSError) as error:
        raise RanksMissing(
            f"Rank {layout.rank} of {layout.size} found no rendezvous at {host}:{port} within "
            f"{layout.start_seconds:g} s: {'the port cannot be opened' if hosts else 'rank 0 did not come'}. {error}"
        ) from error


def _address_in_environment() -> tuple[str, int]:
    try:
        return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise PluginError(
            "The rendezvous env:// needs the variables MASTER_ADDR and MASTER_PORT, which torchrun and "
            "mnist_trials.launch.torch_distributed set."
        ) from error


def _wait_for_all(store: Store, layout: Layout) -> None:
    """Asks again and again: a store that waits itself fills the log when it has waited too long."""
    notes = [str(rank) for rank in range(layout.size)]
    deadline = time.monotonic() + layout.start_seconds
    while not store.check(notes):
        if time.monotonic() > deadline:
            store.set(_GAVE_UP, str(layout.rank))
            raise RanksMissing(_who_is_missing(store, layout))
        time.sleep(_POLL)
    if store.check([_GAVE_UP]):
        raise RanksMissing(
            f"Rank {layout.rank} of {layout.size} came after rank {store.get(_GAVE_UP).decode()} had waited "
            f"{layout.start_seconds:g} s for it and given up. Start ranks closer together, or give them longer: "
            "watchdog.start_seconds."
        )


def _who_is_missing(store: Store, layout: Layout) -> str:
    here = [rank for rank in range(layout.size) if store.check([str(rank)])]
    missing = [str(rank) for rank in range(layout.size) if rank not in here]
    return (
        f"Rank{'s' * (len(missing) > 1)} {', '.join(missing)} of {layout.size} did not come within "
        f"{layout.start_seconds:g} s (watchdog.start_seconds). There: "
        f"{', '.join(store.get(str(rank)).decode() for rank in here)}."
    )
