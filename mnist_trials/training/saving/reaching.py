"""The checkpoint that a script names to go on from, or that its experiment starts from, brought to the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mnist_trials.checkpoint.named import fetched, find_checkpoint, is_url
from mnist_trials.errors import CheckpointError
from mnist_trials.training.context import TrialContext


@contextmanager
def reached(context: TrialContext, checkpoint: str | Path) -> Iterator[Path]:
    """The checkpoint as a local, read-only folder named by its id, for the time of a `with` block.

    A folder; a URL; an id in the trial's own storage, or, of one in a folder under the home, the beginning of its id.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be fetched.
        PluginError: a URL is of a storage that cannot be used here.
    """
    name = str(checkpoint)
    path = Path(name).expanduser()
    with ExitStack() as stack:
        if is_url(name) or path.is_absolute() or path.is_dir():
            yield stack.enter_context(fetched(name)).absolute()
            return
        yield _in_storage(context, name, stack)


def _in_storage(context: TrialContext, name: str, stack: ExitStack) -> Path:
    try:
        return stack.enter_context(context.storage.fetch(name))
    except CheckpointError as error:
        try:
            return find_checkpoint(name)
        except CheckpointError:
            raise error from None  # which says what the storage holds
