"""What files look like: which of them are one table, what it is called, and that its path finds them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from anchovies.plugins.files.folder import FolderPlace
from anchovies.plugins.files.guess import guess_tbls
from anchovies.plugins.files.place import find, parse_patterns

A, B = "a,b\n1,2\n", "c,d\n1,2\n"


@pytest.mark.parametrize(
    ("files", "tables"),
    [
        ({"sales/2026-11-01.csv": A, "sales/2026-11-02.csv": A}, {"sales": "sales/*.csv"}),
        ({"sales/monday.csv": A, "sales/tuesday.csv": A}, {"sales": "sales/*.csv"}),
        ({"orders_1.csv": A, "orders_22.csv": A, "customers.csv": B}, {"orders": "orders_*.csv", "customers": "customers.csv"}),
        ({"x.csv": A, "x.tsv": A}, {"x": "x.csv", "x_2": "x.tsv"}),
        ({"1.csv": A}, {"files": "*.csv"}),
        ({"Größe 7.csv": A}, {"gr_e": "Größe *.csv"}),
        ({"a[1],b.csv": A}, {"a_b": ["a[[]*],b.csv"]}),
        ({"deep/er/x.csv.gz": A, "deep/x.csv": A, "picture.png": A}, {"x": "deep/x.csv", "x_2": "deep/er/x.csv.gz"}),
        ({"20260101T0930.txt": A, "20260102T0930.txt": B}, {"files": "*.txt"}),
        ({".hidden.csv": A, "readme": A}, {}),
        ({"bad.csv.gz": b"\x1f\x8bdamaged", "empty.csv": ""}, {"bad": "bad.csv.gz", "empty": "empty.csv"}),
    ],
    ids=str,
)
def test_tables(tmp_path: Path, files: dict[str, str | bytes], tables: dict[str, object]) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") and text == A else data)
    found = {t.name: t.properties["path"] for t in guess_tbls(FolderPlace(tmp_path))}
    assert {
        n: p.removeprefix("/") if isinstance(p, str) else [x.removeprefix("/") for x in p] for n, p in found.items()
    } == tables
    place = FolderPlace(tmp_path)
    for path in found.values():
        assert find(place, parse_patterns(path, "path"), pytest.fail)


def test_a_file_that_may_not_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(A)

    class Place(FolderPlace):
        def open(self, info):  # type: ignore[no-untyped-def]
            raise FileNotFoundError(info.path)

    assert [t.name for t in guess_tbls(Place(tmp_path))] == ["good"]
