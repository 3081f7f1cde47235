"""The checkpoint storage `azure`: a container of Azure Blob Storage.

    checkpoint_storage:
      type: azure
      container: my-container
      account_url: https://myaccount.blob.core.windows.net

or, in place of `account_url`, a `connection_string`. `credential`, beside `account_url`, is an account key or a SAS
token; without it `DefaultAzureCredential` looks for one: environment variables, the machine's identity, `az login`.
That is the better way: what stands in a config is kept with the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mnist_trials.errors import PluginError
from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown
from mnist_trials_plugins.checkpoint_storage._places import bucket_name, missing_package, required_text, secret_text
from mnist_trials_plugins.checkpoint_storage._remote import Remote, RemoteStorage
from mnist_trials_plugins.checkpoint_storage._retry import ONE_MINUTE, Retry

_SELF: Final = "the checkpoint storage 'azure'"


def create(options: Options, default_root: Path, retry: Retry = ONE_MINUTE) -> CheckpointStorage:
    """The storage in `container`. Files pass through `default_root` on their way there.

    Raises:
        PluginError: an option is unknown, absent or wrong.
    """
    refuse_unknown(_SELF, options, ("container", "connection_string", "account_url", "credential"))
    container = bucket_name(_SELF, "container", required_text(_SELF, options, "container", "the name of the container"))
    connection = secret_text(_SELF, options, "connection_string")
    account = secret_text(_SELF, options, "account_url")  # may have a SAS token in its query
    credential = secret_text(_SELF, options, "credential")
    if (connection is None) == (account is None):
        given = "neither is" if account is None else "both are"
        raise PluginError(f"{_SELF.capitalize()} needs either 'connection_string' or 'account_url'; {given} given.")
    if connection is not None and credential is not None:
        raise PluginError(f"'credential' of {_SELF} goes with 'account_url'; a connection_string has its own.")
    settings = {"connection_string": connection} if connection is not None else _account(account or "", credential)
    remote = Remote(
        connect=lambda: (_connect(settings), container),
        url=f"az://{container}",
        access=(
            f"Check that the container '{container}' exists and that the credentials (connection_string or credential, "
            "else what DefaultAzureCredential finds: AZURE_CLIENT_ID and its like, the machine's identity, 'az login') "
            "have the role Storage Blob Data Contributor on it."
        ),
        secrets=_secrets(connection, account, credential),
        whole_puts=True,
    )
    return RemoteStorage(remote, default_root, retry)


def available() -> str | None:
    """Why it cannot be used here, or None."""
    return missing_package("adlfs", "azure")


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("azure", "A container of Azure Blob Storage", create, available)]


def _account(account_url: str, credential: str | None) -> dict[str, Any]:
    """What adlfs is made with for an account; a credential with a '=' between two names is a SAS token."""
    url = urlsplit(account_url)
    name = (url.hostname or "").partition(".")[0]
    if url.scheme != "https" or not name or url.path.strip("/") or url.username is not None:
        raise PluginError(
            f"'account_url' of {_SELF} must be such as https://myaccount.blob.core.windows.net, without a path; give "
            "another kind of address, such as that of an emulator, by a connection_string."
        )
    token = url.query or None
    if token is not None and credential is not None:
        raise PluginError(f"'account_url' of {_SELF} has a SAS token; give no 'credential' beside it.")
    if credential is not None and "sig=" in credential:
        token, credential = credential.removeprefix("?"), None
    secret = {"sas_token": token} if token is not None else {"account_key": credential} if credential else {}
    return {"account_name": name, "account_host": url.netloc, **secret}


def _secrets(*values: str | None) -> tuple[str, ...]:
    """The values, and the parts of a connection string or a SAS token that an error might tell alone."""
    secrets = {value for value in values if value is not None and not value.startswith("https://")}
    for value in filter(None, values):
        for part in value.replace("?", "&").replace(";", "&").split("&"):
            name, _, secret = part.partition("=")
            if name.lower() in ("accountkey", "sharedaccesssignature", "sig") and secret:
                secrets.add(secret)
    return tuple(sorted(secrets))


def _connect(settings: Mapping[str, Any]) -> Any:
    import adlfs

    return adlfs.AzureBlobFileSystem(**settings, skip_instance_cache=True, use_listings_cache=False)
