"""Numbers with their nouns, as sentences want them."""

from __future__ import annotations


def count(number: int, one: str, many: str = "") -> str:
    """`1,234 rows`, `1 row`; `many` where it is not `one` and an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
