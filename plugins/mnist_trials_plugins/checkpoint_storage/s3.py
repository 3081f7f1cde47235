"""The checkpoint storage `s3`: a bucket of Amazon S3 or of a service that speaks like it.

    checkpoint_storage:
      type: s3
      bucket: my-bucket
      prefix: mnist/checkpoints
      endpoint_url: https://minio.example.org:9000    # left out: Amazon

Without `access_key` and `secret_key` credentials are looked for where every S3 client looks: environment variables,
`~/.aws`, the role of the machine. That is the better way: what stands in a config is kept with the experiment.

Files of 32 MiB and more go up in parts of 16 MiB. The parts that a killed writer left are thrown away when its
checkpoint is begun again or deleted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mnist_trials.errors import PluginError
from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown, text_option
from mnist_trials_plugins.checkpoint_storage._failures import Failure, failure_of
from mnist_trials_plugins.checkpoint_storage._places import (
    bucket_name,
    folder_within,
    missing_package,
    required_text,
    secret_text,
)
from mnist_trials_plugins.checkpoint_storage._remote import Remote, RemoteStorage
from mnist_trials_plugins.checkpoint_storage._retry import ONE_MINUTE, Retry

_SELF: Final = "the checkpoint storage 's3'"
_PART: Final = 16 * 2**20  # bytes; a file of two parts and more goes up in parts
_MOST_PARTS: Final = 10_000
_PARTS_AT_ONCE: Final = 4


def create(options: Options, default_root: Path, retry: Retry = ONE_MINUTE) -> CheckpointStorage:
    """The storage below `prefix` in `bucket`. Files pass through `default_root` on their way there.

    Raises:
        PluginError: an option is unknown, absent or wrong.
    """
    refuse_unknown(_SELF, options, ("bucket", "prefix", "endpoint_url", "access_key", "secret_key"))
    bucket = bucket_name(_SELF, "bucket", required_text(_SELF, options, "bucket", "the name of the bucket"))
    prefix = folder_within(_SELF, "prefix", text_option(_SELF, options, "prefix"))
    endpoint = _endpoint(options)
    access, secret = (secret_text(_SELF, options, name) for name in ("access_key", "secret_key"))
    if (access is None) != (secret is None):
        given, other = ("access_key", "secret_key") if secret is None else ("secret_key", "access_key")
        raise PluginError(f"'{given}' of {_SELF} needs '{other}' beside it; or leave both out.")
    root = f"{bucket}/{prefix}" if prefix else bucket
    remote = Remote(
        connect=lambda: (_connect(endpoint, access, secret), root),
        url=f"s3://{root}",
        access=(
            f"Check that the bucket '{bucket}' exists{f' at {endpoint}' if endpoint else ''} and that the credentials "
            "(access_key and secret_key, else AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's "
            "role) allow s3:ListBucket on it and s3:GetObject, s3:PutObject and s3:DeleteObject in it."
        ),
        secrets=tuple(filter(None, (access, secret))),
        whole_puts=True,
        put_options=_in_parts,
        sweep=_end_unfinished_uploads,
        uploads=_uploads,
    )
    return RemoteStorage(remote, default_root, retry)


def available() -> str | None:
    """Why it cannot be used here, or None."""
    return missing_package("s3fs", "s3")


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("s3", "A bucket of Amazon S3, or of a service that speaks like it", create, available)]


def _endpoint(options: Options) -> str | None:
    value = text_option(_SELF, options, "endpoint_url")
    if value is None:
        return None
    url = urlsplit(value)
    if "@" in value or "?" in value:
        raise PluginError(f"'endpoint_url' of {_SELF} must hold no credentials; give access_key and secret_key.")
    if url.scheme not in ("http", "https") or not url.netloc:
        raise PluginError(
            f"'endpoint_url' of {_SELF} must be a URL such as https://minio.example.org:9000, not {value!r}."
        )
    return value


def _connect(endpoint: str | None, access: str | None, secret: str | None) -> Any:
    import s3fs

    files = s3fs.S3FileSystem(
        endpoint_url=endpoint,
        key=access,
        secret=secret,
        max_concurrency=_PARTS_AT_ONCE,
        # A request of a large file is sent twice before the whole file is; more of it is ours to decide.
        config_kwargs={"retries": {"mode": "standard", "total_max_attempts": 2}},
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    files.retries = 1
    return files


def _in_parts(size: int) -> Mapping[str, Any]:
    return {"chunksize": max(_PART, math.ceil(size / _MOST_PARTS))}


def _end_unfinished_uploads(files: Any, folder: str) -> None:
    """Throw away the parts of uploads below `folder` that never ended; they are invisible and cost money."""
    bucket = folder.partition("/")[0]
    for upload in _unfinished_uploads(files, folder):
        with suppress(FileNotFoundError):
            files.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _uploads(files: Any, folder: str) -> Iterable[str]:
    """The paths, from `folder`, of uploads that have not ended."""
    key = folder.partition("/")[2]
    return [upload["Key"].removeprefix(f"{key}/") for upload in _unfinished_uploads(files, folder)]


def _unfinished_uploads(files: Any, folder: str) -> list[Mapping[str, Any]]:
    bucket, _, key = folder.partition("/")
    found: list[Mapping[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        try:
            page = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{key}/" if key else "", **after)
        except Exception as error:
            if failure_of(error) is Failure.TRANSIENT:
                raise
            return found  # the credentials may lack s3:ListBucketMultipartUploads; some services do not know it
        found += page.get("Uploads") or ()
        if not page.get("IsTruncated"):
            return found
        after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
