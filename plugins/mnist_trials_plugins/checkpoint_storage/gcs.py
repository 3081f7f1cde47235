"""The checkpoint storage `gcs`: a bucket of Google Cloud Storage.

    checkpoint_storage:
      type: gcs
      bucket: my-bucket
      prefix: mnist/checkpoints

Credentials are Google's application default credentials: GOOGLE_APPLICATION_CREDENTIALS, those of
`gcloud auth application-default login`, or the machine's service account.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown, text_option
from mnist_trials_plugins.checkpoint_storage._places import bucket_name, folder_within, missing_package, required_text
from mnist_trials_plugins.checkpoint_storage._remote import Remote, RemoteStorage
from mnist_trials_plugins.checkpoint_storage._retry import ONE_MINUTE, Retry

_SELF: Final = "the checkpoint storage 'gcs'"


def create(options: Options, default_root: Path, retry: Retry = ONE_MINUTE) -> CheckpointStorage:
    """The storage below `prefix` in `bucket`. Files pass through `default_root` on their way there.

    Raises:
        PluginError: an option is unknown, absent or wrong.
    """
    refuse_unknown(_SELF, options, ("bucket", "prefix"))
    bucket = bucket_name(_SELF, "bucket", required_text(_SELF, options, "bucket", "the name of the bucket"))
    prefix = folder_within(_SELF, "prefix", text_option(_SELF, options, "prefix"))
    root = f"{bucket}/{prefix}" if prefix else bucket
    remote = Remote(
        connect=lambda: (_connect(), root),
        url=f"gs://{root}",
        access=(
            f"Check that the bucket '{bucket}' exists and that the application default credentials "
            "(GOOGLE_APPLICATION_CREDENTIALS, 'gcloud auth application-default login', or the machine's service "
            "account) have the role Storage Object Admin on it."
        ),
        whole_puts=True,
    )
    return RemoteStorage(remote, default_root, retry)


def available() -> str | None:
    """Why it cannot be used here, or None."""
    return missing_package("gcsfs", "gcs")


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("gcs", "A bucket of Google Cloud Storage", create, available)]


def _connect() -> Any:
    # Not the class that gcsfs puts in its place since 2025: that asks a second service, which needs a right more, what
    # kind of bucket it is.
    from gcsfs.core import GCSFileSystem

    return GCSFileSystem(token="google_default", skip_instance_cache=True, use_listings_cache=False)  # noqa: S106
