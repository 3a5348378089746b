"""What a table leaves out, renames and masks: mistakes, merging with what is known, and what the source sees."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.core.errors import ConfigError
from anchovies.core.reshape import as_yielded, kept_types, mask_key
from anchovies.core.tbl import Column, SortKey, Tbl
from anchovies.core.tblconfig import merge_tbl, tbl_from_config, tbl_from_json, tbl_to_json
from anchovies.core.types import DATETIME, INT, STR

FOUND = Tbl(
    "t",
    (Column("nr", INT), Column("mail", INT), Column("junk", STR), Column("at", DATETIME)),
    unique_by=("nr", "mail"),
    sort_by=(SortKey("at", True),),
)
SHAPE = {"exclude": "junk", "rename": {"mail": "email", "nr": "id"}, "mask": {"email": "sha256"}}


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        ({"mask": {"a": "sha265"}}, "tbls.t.mask.a: unknown mask 'sha265'", "did you mean 'sha256'?"),
        ({"mask": {"a": "zzzzzz"}}, "tbls.t.mask.a: unknown mask", "masks: redact, sha256"),
        ({"mask": "a"}, "tbls.t.mask: expected a map", "tbls.t.mask: {email"),
        ({"rename": {"a": "x", "b": "X"}}, "tbls.t.rename: both 'a' and 'b' would be named 'X'", "give each"),
        ({"rename": {"a": ""}}, "tbls.t.rename: expected a map", ""),
        ({"rename": {"a": "b"}, "exclude": "a"}, "tbls.t.rename: 'a' is left out", "take it out"),
        ({"rename": {"a": "b"}, "mask": {"a": "redact"}}, "tbls.t.mask: 'a' is kept as 'b'", "name it as it is kept"),
        ({"rename": {"a": "b"}, "columns": {"a": "int"}}, "tbls.t.columns: 'a' is kept as 'b'", "name it as it is kept"),
        ({"exclude": "a", "mask": {"a": "redact"}}, "tbls.t.mask: 'a' is left out", "take it out"),
        ({"mask": {"a": "redact"}, "columns": {"a": "int"}}, "tbls.t.columns: 'a' is masked", "leave its type out"),
        ({"mask": {"a": "redact"}, "unique_by": "a"}, "tbls.t.unique_by: 'a' is redacted", "mask it with sha256"),
        ({"mask": {"a": "sha256"}, "sort_by": "-a"}, "tbls.t.sort_by: 'a' is masked", "sort by another"),
    ],
)
def test_mistakes_are_named(raw: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as e:
        tbl_from_config("t", raw, {})
    assert e.value.message.startswith(message)
    assert (e.value.hint or "").startswith(hint)


def test_what_was_discovered_is_shaped_before_the_configuration_is_merged() -> None:
    tbl = merge_tbl(FOUND, {**SHAPE, "columns": {"more": "int"}}, {})
    assert tbl.types == {"id": INT, "email": STR, "at": DATETIME, "more": INT}
    assert (tbl.unique_by, tbl.sort_by) == (("id", "email"), (SortKey("at", True),))


def test_a_source_sees_its_own_names_and_masked_columns_as_text() -> None:
    seen = as_yielded(merge_tbl(FOUND, {**SHAPE, "mask": {"email": "sha256", "phone": "redact"}}, {}))
    assert seen.types == {"nr": INT, "mail": STR, "at": DATETIME, "phone": STR}
    assert seen.unique_by == ("nr", "mail")
    assert as_yielded(FOUND) is FOUND


def test_published_tables_keep_their_shape_and_an_uploader_may_only_say_the_same() -> None:
    kept = merge_tbl(FOUND, {**SHAPE, "x-owner": "sales", "path": "/x"}, {"path": "where"})
    published = tbl_from_json(tbl_to_json(kept))
    assert published == kept.with_(properties={"x-owner": "sales"})
    assert merge_tbl(published, {**SHAPE, "x-more": 1}).properties == {"x-owner": "sales", "x-more": 1}
    with pytest.raises(ConfigError, match="was kept in another shape") as e:
        merge_tbl(published, {"mask": {"id": "redact"}})
    assert "configuration of the downloader" in (e.value.hint or "")


def test_columns_of_earlier_commits_follow_the_shape() -> None:
    tbl = merge_tbl(Tbl("t"), SHAPE, {})
    assert kept_types(tbl, {"id": INT, "email": INT, "junk": STR, "mail": INT}) == {"id": INT, "email": STR, "mail": INT}


def test_a_key_is_needed_where_something_is_hashed() -> None:
    hashed, redacted = Tbl("h", mask={"a": "sha256"}), Tbl("r", mask={"a": "redact"})
    assert mask_key([redacted, Tbl("x")], None) is None
    assert mask_key([hashed], "k" * 16) == b"k" * 16
    for key in (None, "", "short"):
        with pytest.raises(ConfigError, match="ACHVY_MASK_KEY") as e:
            mask_key([redacted, hashed], key)
        assert "openssl rand" in (e.value.hint or "")


def test_the_shape_in_words() -> None:
    tbl = merge_tbl(FOUND, {**SHAPE, "schema": "reject", "on_bad_row": "reject"}, {})
    assert tbl.describe_shape() == [
        "left out: junk",
        "mail of the source is kept as email",
        "nr of the source is kept as id",
        "email is kept as a keyed hash (sha256)",
        "schema: reject: rows that bring a new column or do not fit go to the rejects",
        "on_bad_row: reject: rows that cannot be kept go to the rejects",
    ]
    assert FOUND.with_(schema="freeze").describe_shape() == ["schema: freeze: new columns and types stop the table"]
    assert FOUND.describe_shape() == []
