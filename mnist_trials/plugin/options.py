"""Checks that every plugin needs of the options beside its name; each mistake is a PluginError with what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from mnist_trials.errors import PluginError


def refuse_unknown(plugin: str, options: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Check that `options` holds nothing but `allowed`. `plugin` is how a person calls it: "the logger 'wandb'".

    Raises:
        PluginError: it does; the text names every unknown option, the nearest known one, and all that are allowed.
    """
    unknown = [name for name in options if name not in allowed]
    if not unknown:
        return
    near = difflib.get_close_matches(str(unknown[0]), allowed, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    names = ", ".join(f"'{name}'" for name in unknown)
    takes = ", ".join(sorted(allowed)) or "no options"
    raise PluginError(f"{plugin[:1].upper()}{plugin[1:]} does not take {names}.{hint} It takes: {takes}.")


def text_option(plugin: str, options: Mapping[str, Any], name: str) -> str | None:
    """The option `name` as text; None where it is absent or null.

    Raises:
        PluginError: it is not text, is empty, or holds a NUL character.
    """
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise PluginError(f"'{name}' of {plugin} must be text that is not empty, not {value!r}.")
    return value
