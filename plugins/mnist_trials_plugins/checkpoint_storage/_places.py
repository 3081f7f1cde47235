"""Checks of where a storage is told to keep checkpoints, and of what it must not tell anyone."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, Final

from mnist_trials.config.secrets import HIDDEN, SECRET_NAME
from mnist_trials.errors import PluginError

_SEGMENT: Final = re.compile(r"[\w.=+@~,:-]+")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_LONGEST: Final = 512  # bytes; object stores take 1024 for a whole name, id and file included


def folder_within(plugin: str, name: str, value: str | None) -> str:
    """The option `name`, a folder within a bucket, without a slash at its end; "" for none.

    Raises:
        PluginError: it leads out of the bucket, would be another place to another program, or is too long.
    """
    path = (value or "").removesuffix("/")
    segments = path.split("/") if value else []
    wrong = next((segment for segment in segments if not _is_plain(segment)), None)
    if wrong is None and len(path.encode(errors="replace")) <= _LONGEST:
        return path
    shown = value if value is not None and len(value) <= 80 else f"{(value or '')[:80]}..."
    raise PluginError(
        f"'{name}' of {plugin} must be folder names with '/' between them, without '..' and not beginning with '/', of "
        f"letters, digits and the characters . _ = + @ ~ , : - and at most {_LONGEST} bytes in all, not {shown!r}."
    )


def bucket_name(plugin: str, name: str, value: str) -> str:
    """The option `name`, a bucket or container.

    Raises:
        PluginError: it cannot be the name of one.
    """
    if _BUCKET.fullmatch(value) is None or ".." in value:
        raise PluginError(
            f"'{name}' of {plugin} must be the plain name of a {name}, of letters, digits, '.', '_' and '-', "
            f"not {value[:80]!r}; a folder within it goes into 'prefix' where there is one."
        )
    return value


def required_text(plugin: str, options: Mapping[str, Any], name: str, meaning: str) -> str:
    """The option `name`, text that must be there.

    Raises:
        PluginError: it is absent, not text, or empty.
    """
    value = options.get(name)
    if value is None:
        raise PluginError(f"{plugin[:1].upper()}{plugin[1:]} needs '{name}', {meaning}.")
    if not isinstance(value, str) or not value or "\0" in value:
        raise PluginError(f"'{name}' of {plugin} must be text that is not empty, not {value!r}.")
    return value


def secret_text(plugin: str, options: Mapping[str, Any], name: str) -> str | None:
    """The option `name`, a secret; None where it is absent. What was given is in no error.

    Raises:
        PluginError: it is not text, or is empty.
    """
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise PluginError(f"'{name}' of {plugin} must be text that is not empty; put it in quotes if it is a number.")
    return value


def secrets_in(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts in `options`, at any depth, whose names say that they are secrets."""
    found: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            found.extend(secrets_in(value))
        elif isinstance(value, str | int) and not isinstance(value, bool) and SECRET_NAME.search(str(name)):
            found.append(str(value))
    return tuple(found)


def hide(text: str, secrets: Collection[str]) -> str:
    """`text` without the secrets in it."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def missing_package(package: str, extra: str) -> str | None:
    """Why a storage that needs `package` cannot be used here, or None."""
    if importlib.util.find_spec(package) is None:
        return f"the package {package} is not installed; install it with: pip install 'mnist-trials[{extra}]'"
    return None


def is_plain_file_name(name: str) -> bool:
    """Whether `name`, with '/' between folders, can lie in a folder without leading out of it."""
    return all(part not in ("", ".", "..") and "\\" not in part and "\0" not in part for part in name.split("/"))


def _is_plain(segment: str) -> bool:
    # A name that another normalisation of Unicode changes may be another folder, or '..', to another program.
    return (
        segment not in (".", "..")
        and _SEGMENT.fullmatch(segment) is not None
        and unicodedata.normalize("NFKC", segment) == segment
    )
