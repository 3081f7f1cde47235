"""Which values of a config are secrets, so that nothing but the store and the workers gets to see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "***"
"""What stands where a secret was."""

SECRET_NAME: Final = re.compile(
    r"secret|passw|passphrase|token|credential|connection_string|signature|auth|(?:account|access|private|api|shared)_?key"
    r"|^key$|^sas",
    re.IGNORECASE,
)
"""What the names of secrets look like."""

_SECTIONS: Final = ("checkpoint_storage", "launcher", "backend", "loggers")
_ADDRESSES: Final = ("searcher", "resume")
"""Sections with no secrets but in addresses: where a checkpoint lies."""
_WHOLE: Final = "checkpoint_storage.options"  # of a file system of any kind, which has names of its own
_LOGIN: Final = re.compile(r"(?<=://)[^/\s]*@")  # up to the last one: a password may hold another
_QUERY: Final = re.compile(r"(?<=\?).*$", re.DOTALL)  # of an address: a signature may stand there


def is_secret(path: str) -> bool:
    """Whether what stands at the dotted `path` of a config is, or may be, a secret."""
    names = path.split(".")
    if names[0].partition("[")[0] not in _SECTIONS:
        return False
    return path.startswith(f"{_WHOLE}.") or any(SECRET_NAME.search(name) for name in names[1:])


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved config `document` with `HIDDEN` in place of each secret, for everybody to see."""
    return {
        name: _shown(value, name) if name in (*_SECTIONS, *_ADDRESSES) else value for name, value in document.items()
    }


def _shown(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _shown(item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, path) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret(path):
        return HIDDEN
    return shown_address(value) if isinstance(value, str) else value


def shown_address(text: str) -> str:
    """`text`, if it is an address, without what may be a secret in it."""
    return _QUERY.sub(HIDDEN, _LOGIN.sub(f"{HIDDEN}@", text)) if "://" in text else text
