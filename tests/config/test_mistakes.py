"""Every mistake of mistakes.yaml is told in exactly these words, at exactly this place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_config_with_mistakes_is_refused_with_all_of_them(
    mistake: dict[str, Any], says: Callable[..., str], base: str
) -> None:
    text = mistake.get("config") or base + mistake["add"]
    assert says(text, tuple(mistake.get("overrides", ()))) == mistake["says"].rstrip("\n")
