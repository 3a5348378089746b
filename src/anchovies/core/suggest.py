"""Near misses: what somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice that looks most like `word`, letter case aside; None where none comes near."""
    by_folded = {c.casefold(): c for c in choices}
    found = get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str], *, else_list: str | None = None) -> str | None:
    """A hint: `did you mean 'unique_by'?`; without a near miss `<else_list>: a, b, c`, if that is given."""
    names = list(choices)
    if found := nearest(word, names):
        return f"did you mean {found!r}?"
    return f"{else_list}: {', '.join(sorted(names)) or 'none'}" if else_list else None


def alike(a: str, b: str) -> float:
    """How much two words look alike, 0 to 1."""
    return SequenceMatcher(None, a, b).ratio()
