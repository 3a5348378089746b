"""Which texts may be names (of tables, anchovies, users)."""

from __future__ import annotations

from anchovies.core.errors import ConfigError


def check_name(name: str, what: str) -> str:
    """Refuse names that could leave their folder. Raises ConfigError before anything is touched; returns the name."""
    bad = (
        "is empty" if not name
        else "is a path, not a name" if name in (".", "..") or "/" in name or "\\" in name
        else "holds a control character" if any(ord(c) < 32 or ord(c) == 127 for c in name)
        else None
    )  # fmt: skip
    if bad:
        raise ConfigError(f"{what} {name!r} {bad}", hint="a name is made of letters, digits, '_', '-' and '.'")
    return name
