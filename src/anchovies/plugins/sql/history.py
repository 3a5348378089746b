"""The merge: what a load makes of a table, in a few set-based statements that give what row by row, unit by unit would.

The rows of the load (stage) and the current rows of the keys and sets that they touch stand side by side in `_anchovies_w`, each
with the number of its identity (`_k`) and of its set (`_s`). From there only numbers are looked at:

    flagged   which rows are in the chain of their identity: the rows that were current for a while. Without sets, whatever does
              not sort behind what was current; with sets, the winner of each unit
    linked    each link of a chain with the one before it, and the `_seq` at which a later unit expired it, if one did
    fate      each link with whether it is a new version (it differs from the one before, or that one had expired), and where
              it ends: at the next new version, or where it expired

Everything else lost: it becomes an already superseded version (`scd`), unless the identity has an equal version anyway.

A unit is applied as one: its losers were never current, and end at the `_seq` of the version that is current after the unit. A
set whose rows nothing tells apart (neither unique_by nor sort_by) is a bag: the n-th of equal rows is one identity, so as many
equal rows as the unit brings continue, and only the difference comes or goes.

A whole task (`snapshot`, `replace`) is a unit of one set, the whole table. A delete marker (`deleted_by`) is a link like any
other, but no version: it ends the one before it, and whatever comes after it is new. A key has no memory of its deletes: where
`sort_by` decides, rows after a marker compete with each other only, so a load with markers is merged in rounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from anchovies.plugins.sql.database import Col, Database
from anchovies.plugins.sql.names import quote
from anchovies.plugins.sql.table import Table
from anchovies.sdk import RetryableError, Tbl

STAGE = "_anchovies_stage"
ROUNDS = "_anchovies_rounds"
FALSE_TEXTS = "'', '0', 'false', 'f', 'no', 'n', 'off'"
TEMPS = ("_anchovies_w", "_anchovies_flagged", "_anchovies_linked", "_anchovies_fate")


@dataclass
class Merge:
    """One merge of the filled stage into `table`. `stage` columns are called c0, c1, … in the order of `table.columns`."""

    db: Database
    tbl: Tbl
    table: Table

    def __post_init__(self) -> None:
        self.scd = self.tbl.write_mode == "scd"
        self.set_by = () if self.tbl.by_task else self.tbl.set_by
        self.sets = bool(self.tbl.set_by) or self.tbl.by_task
        self.stage = STAGE
        self.bag = self.sets and not self.tbl.unique_by and not self.tbl.sort_by
        self.n = range(len(self.table.columns))
        # a column that was null in every row so far has no type, so it is not there, and neither orders nor tells rows apart
        absent = {c.name for c in self.tbl.columns if c.type.kind == "null"}
        self.sort_by = [k for k in self.tbl.sort_by if k.column not in absent]
        self.identity = [n for n in self.tbl.identity if n not in absent]
        self.dead = self._marker(self.tbl.deleted_by) if self.tbl.deleted_by and self.tbl.deleted_by not in absent else "0"

    def run(self) -> dict[str, int]:
        """Apply it; the counts."""
        if self.sets or not self.sort_by or self.dead == "0" or not (last := self._rounds()):
            return self._once()
        total: dict[str, int] = {}
        for n in range(last + 1):
            self.stage = f"(SELECT s.* FROM {STAGE} s JOIN {ROUNDS} r ON r._seq = s._seq WHERE r._round = {n}) _one"  # noqa: S608
            for what, count in self._once().items():
                total[what] = total.get(what, 0) + count
        self.db.drop_temp(ROUNDS)
        return total

    def _rounds(self) -> int:
        """Number the rows of each key: those up to its first marker, those up to the next, and so on. The last number."""
        keys = ", ".join(self.db.carry(f"c{self._index(n)}", self._col(n).sql) for n in self.tbl.unique_by)
        frame = f"OVER (PARTITION BY {keys} ORDER BY _seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        self.db.drop_temp(ROUNDS)
        numbered = f"SELECT _seq, coalesce(sum({self.dead}) {frame}, 0) AS _round FROM {STAGE}"  # noqa: S608
        self.db.make_temp(ROUNDS, select=numbered, keys=("_seq",))
        last = int(str(self.db.rows(f"SELECT coalesce(max(_round), 0) FROM {ROUNDS}")[0][0]))  # noqa: S608
        if not last:
            self.db.drop_temp(ROUNDS)
        return last

    def _marker(self, column: str) -> str:
        """1 for a row of the stage that marks a delete: true, another number than 0, a text that does not say no, any value of
        another type."""
        col = self._col(column)
        value = self.db.carry(f"c{self._index(column)}", col.sql)
        if col.sql.lower() in ("text", "varchar", "longtext"):
            said = f"lower(trim({value})) NOT IN ({FALSE_TEXTS})"
        elif col.type.kind == "bool":
            said = value
        else:
            said = f"{value} <> 0" if col.type.kind in ("int", "float", "decimal") else f"{value} IS NOT NULL"
        return f"CASE WHEN {said} THEN 1 ELSE 0 END"

    def _once(self) -> dict[str, int]:
        self._work()
        self._flag()
        self._link()
        self._fates()
        counts = self._count()
        self._end_old()
        late = self._keep_losers() if self.scd else counts["_losers"]
        self._insert_new()
        losers = counts.pop("_losers")
        self.drop()
        return {**counts, "late": late, "unchanged": counts["unchanged"] + losers - late}

    def drop(self) -> None:
        for name in TEMPS:
            self.db.drop_temp(name)

    # ---- the rows side by side

    def _work(self) -> None:
        cols = self.table.columns
        new = ", ".join(f"{self.db.carry(f'c{i}', cols[i].sql)} AS c{i}" for i in self.n)
        old = ", ".join(f"{self.db.carry('t.' + cols[i].quoted, cols[i].sql)} AS c{i}" for i in self.n)
        rows = (
            f"SELECT {new}, _seq, _seq AS _ord, {'_unit' if self.set_by else '1'} AS _unit, "  # noqa: S608
            f"CAST(NULL AS {self.db.addr_type}) AS _addr, {self.dead} AS _dead FROM {self.stage} UNION ALL {self._touched(old)}"
        )
        if self.bag:
            every = ", ".join(f"c{i}" for i in self.n)
            rows = f"SELECT a.*, row_number() OVER (PARTITION BY _unit, {every} ORDER BY _seq) AS _nth FROM ({rows}) a"  # noqa: S608
        identity = [f"c{i}" for i in self.n] + ["_nth"] if self.bag else self._at(self.identity)
        s = f"dense_rank() OVER (ORDER BY {', '.join(self._at(self.set_by))})" if self.set_by else "0"
        self._temp(
            0,
            f"SELECT b.*, dense_rank() OVER (ORDER BY {', '.join(identity)}) AS _k, {s} AS _s, "  # noqa: S608
            f"CASE WHEN _ord = 0 THEN -row_number() OVER () ELSE _seq END AS _id FROM ({rows}) b",
        )

    def _touched(self, columns: str) -> str:
        """The current rows of the sets that the load brings, and of the keys."""
        seq, current = ("t._seq", "t._del IS NULL") if self.scd else ("0", "1 = 1")
        select = f"SELECT {columns}, {seq} AS _seq, 0 AS _ord, 0 AS _unit, t.{self.db.addr} AS _addr, 0 AS _dead FROM "  # noqa: S608
        table = f"{self.table.relation} t"
        if self.sets and not self.set_by:
            return f"{select}{table} WHERE {current}"
        by_key = f"{select}{self._distinct(self.tbl.unique_by, 's')} JOIN {table} ON {self._meets(self.tbl.unique_by, 's')}"
        if not self.sets:
            return f"{by_key} WHERE {current}"
        meets = self._meets(self.tbl.set_by, "z")
        by_set = f"{select}{self._distinct(self.tbl.set_by, 'z')} JOIN {table} ON {meets} WHERE {current}"
        if not self.tbl.unique_by:
            return by_set
        elsewhere = f"LEFT JOIN {self._distinct(self.tbl.set_by, 'z')} ON {meets} WHERE {current} AND z.one IS NULL"
        return f"{by_set} UNION ALL {by_key} {elsewhere}"

    def _distinct(self, names: Iterable[str], alias: str) -> str:
        values = ", ".join(f"{self.db.carry(self._name(n), self._col(n).sql)} AS {self._name(n)}" for n in names)
        return f"(SELECT DISTINCT {values}, 1 AS one FROM {self.stage}) {alias}"  # noqa: S608

    def _meets(self, names: Iterable[str], alias: str) -> str:
        """The join of the table `t` with carried values of the columns `names`; a plain equality, so that an index helps."""
        return " AND ".join(
            f"{self.db.carry(f't.{self._col(n).quoted}', self._col(n).sql)} = {alias}.{self._name(n)}" for n in names
        )

    # ---- chains

    def _flag(self) -> None:
        order = [self.db.sorted(self.db.ordered(self._name(k.column), self._col(k.column)), k.descending) for k in self.sort_by]
        ids = "_id, _k, _s, _unit, _ord, _seq, _addr, _dead"
        if self.sets:
            first = f"row_number() OVER (PARTITION BY _k, _unit ORDER BY {', '.join([*order, '_ord DESC'])})"
            chain = f"SELECT {ids}, CASE WHEN {first} = 1 THEN 1 ELSE 0 END AS _chain FROM {TEMPS[0]}"  # noqa: S608
        elif not order:
            chain = f"SELECT {ids}, 1 AS _chain FROM {TEMPS[0]}"  # noqa: S608
        else:
            rank = f"dense_rank() OVER (PARTITION BY _k ORDER BY {', '.join(order)})"
            best = "min(_r) OVER (PARTITION BY _k ORDER BY _ord ROWS UNBOUNDED PRECEDING)"
            ranked = f"SELECT {ids}, {rank} AS _r FROM {TEMPS[0]}"  # noqa: S608
            chain = f"SELECT {ids}, CASE WHEN _r = {best} THEN 1 ELSE 0 END AS _chain FROM ({ranked}) r"  # noqa: S608
        self._temp(1, chain)

    def _link(self) -> None:
        k = "OVER (PARTITION BY _k ORDER BY _ord)"
        links = f"SELECT f.*, lag(_id) {k} AS _prev, lead(_unit) {k} AS _next FROM {TEMPS[1]} f WHERE _chain = 1"  # noqa: S608
        if not self.sets:
            self._temp(2, f"SELECT l.*, {self.db.no_int} AS _xat, {self.db.no_int} AS _gone FROM ({links}) l")  # noqa: S608
            return
        s = "OVER (PARTITION BY _s ORDER BY _unit)"
        firsts = f"SELECT _s, _unit, min(_seq) AS _first FROM {TEMPS[0]} GROUP BY _s, _unit"  # noqa: S608
        units = f"SELECT _s, _unit, lead(_unit) {s} AS _xu, lead(_first) {s} AS _xf FROM ({firsts}) u"  # noqa: S608
        expired = (
            f"SELECT l.*, CASE WHEN _xu IS NOT NULL AND (_next IS NULL OR _xu < _next) THEN _xf END AS _xat "  # noqa: S608
            f"FROM ({links}) l LEFT JOIN ({units}) u ON u._s = l._s AND u._unit = l._unit"
        ).replace("l.*", "l._id, l._k, l._unit, l._ord, l._seq, l._addr, l._dead, l._prev", 1)
        self._temp(2, f"SELECT x.*, lag(_xat) {k} AS _gone FROM ({expired}) x")  # noqa: S608

    def _fates(self) -> None:
        k = "OVER (PARTITION BY _k ORDER BY _ord)"
        first = "l._prev IS NULL OR l._gone IS NOT NULL OR p._dead = 1"
        kept = (
            f"SELECT l._id, l._k, l._unit, l._ord, l._seq, l._addr, l._dead, l._xat, "  # noqa: S608
            f"CASE WHEN {first} THEN 1 ELSE 0 END AS _first, "
            f"CASE WHEN l._dead = 0 AND ({first} OR NOT ({self._equal('x', 'p')})) THEN 1 ELSE 0 END AS _kept "
            f"FROM {TEMPS[2]} l JOIN {TEMPS[0]} x ON x._id = l._id LEFT JOIN {TEMPS[0]} p ON p._id = l._prev"
        )
        breaks = (
            f"SELECT v.*, CASE WHEN _xat IS NOT NULL THEN _xat WHEN lead(_kept + _dead) {k} = 1 THEN lead(_seq) {k} END AS _brk "  # noqa: S608
            f"FROM ({kept}) v"
        )
        frame = "OVER (PARTITION BY _k ORDER BY _ord ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)"
        self._temp(3, f"SELECT b.*, min(_brk) {frame} AS _end FROM ({breaks}) b")  # noqa: S608

    def _count(self) -> dict[str, int]:
        new = "_ord > 0 AND _kept = 1"
        tests = {
            "inserted": f"{new} AND _first = 1",
            "changed": f"{new} AND _first = 0",
            "deleted": "_dead = 1 AND _first = 0",
            "unchanged": "_ord > 0 AND _kept = 0 AND (_dead = 0 OR _first = 1)",
            "expired": "_xat IS NOT NULL AND _dead = 0",
            "_links": "1 = 1",
            "_ended": "_ord = 0 AND _end IS NOT NULL",
        }
        sums = ", ".join(f"coalesce(sum(CASE WHEN {t} THEN 1 ELSE 0 END), 0)" for t in tests.values())
        found = self.db.rows(f"SELECT {sums} FROM {TEMPS[3]}")[0]  # noqa: S608
        counts = {name: int(str(v)) for name, v in zip(tests, found, strict=True)}
        every = int(str(self.db.rows(f"SELECT count(*) FROM {TEMPS[1]}")[0][0]))  # noqa: S608
        self._ended = counts.pop("_ended")
        losers = every - counts.pop("_links")
        return {**counts, "_losers": losers}

    # ---- what it comes to

    def _end_old(self) -> None:
        if not self._ended:
            return
        ends = f"(SELECT _addr, _end FROM {TEMPS[3]} WHERE _ord = 0 AND _end IS NOT NULL)"  # noqa: S608
        sql = (self.db.end_rows if self.scd else self.db.delete_rows)(self.table.relation, ends)
        if (done := self.db.run(sql)) != self._ended:
            raise RetryableError(
                f"tbl {self.tbl.name}: somebody else changed the table while it was loaded ({done} of {self._ended} rows)",
                tbl=self.tbl.name,
            )

    def _insert_new(self) -> None:
        history = ", f._seq, f._end" if self.scd else ""
        only = "" if self.scd else " AND f._end IS NULL"
        self.db.run(
            f"{self._into()} SELECT {self._values('x')}{history} FROM {TEMPS[3]} f JOIN {TEMPS[0]} x ON x._id = f._id "  # noqa: S608
            f"WHERE f._ord > 0 AND f._kept = 1{only} ORDER BY f._ord"
        )

    def _keep_losers(self) -> int:
        losers = f"SELECT count(*) FROM {TEMPS[1]} WHERE _chain = 0"  # noqa: S608
        if not int(str(self.db.rows(losers)[0][0])):
            return 0
        self.db.index_temp(TEMPS[0], "_k")
        order = "g._unit" if self.sets else "g._ord"
        based = (
            f"SELECT g.*, max(CASE WHEN f._kept = 1 THEN f._seq END) OVER (PARTITION BY g._k ORDER BY {order}) AS _base, "  # noqa: S608
            f"{self._fell()} AS _fell FROM {TEMPS[1]} g LEFT JOIN {TEMPS[3]} f ON f._id = g._id"
        )
        earlier = (
            f"SELECT 1 FROM {TEMPS[0]} e JOIN {TEMPS[1]} h ON h._id = e._id WHERE e._k = x._k "  # noqa: S608
            f"AND (e._ord < x._ord OR (h._chain = 1 AND h._unit = x._unit)) AND {self._equal('e', 'x')}"
        )
        keys = tuple(dict.fromkeys((*self.tbl.unique_by, *self.tbl.set_by)))
        carried = " AND ".join(
            self.db.same(self.db.carry(f"t.{c.quoted}", c.sql), f"x.c{i}") for i, c in enumerate(self.table.columns)
        )
        before = f"SELECT 1 FROM {self.table.relation} t WHERE {self._meets(keys, 'x')} AND {carried}"  # noqa: S608
        return self.db.run(
            f"{self._into()} SELECT {self._values('x')}, l._seq, l._base FROM ({based}) l JOIN {TEMPS[0]} x ON x._id = l._id "  # noqa: S608
            f"WHERE l._chain = 0 AND l._dead = 0 AND l._fell = 0 AND NOT EXISTS ({earlier}) AND NOT EXISTS ({before})"
        )

    def _fell(self) -> str:
        """1 for the rows of a unit that deletes their identity: nothing was current that they could be behind."""
        if not self.sets or self.dead == "0":
            return "0"
        return "max(CASE WHEN g._chain = 1 AND g._dead = 1 THEN 1 ELSE 0 END) OVER (PARTITION BY g._k, g._unit)"

    # ---- pieces

    def _into(self) -> str:
        names = [c.quoted for c in self.table.columns] + ([quote("_seq"), quote("_del")] if self.scd else [])
        return f"INSERT INTO {self.table.relation} ({', '.join(names)})"

    def _values(self, alias: str) -> str:
        return ", ".join(self.db.uncarry(f"{alias}.c{i}", c.sql) for i, c in enumerate(self.table.columns))

    def _equal(self, a: str, b: str) -> str:
        return " AND ".join(self.db.same(f"{a}.c{i}", f"{b}.c{i}") for i in self.n)

    def _temp(self, which: int, select: str) -> None:
        name = TEMPS[which]
        self.db.make_temp(name, select=select, keys=("_id", "_k"))
        self.db.analyze(name)

    def _col(self, source: str) -> Col:
        return self.table.columns[self._index(source)]

    def _name(self, source: str) -> str:
        return f"c{self._index(source)}"

    def _at(self, names: Iterable[str]) -> list[str]:
        return [self._name(n) for n in names]

    def _index(self, source: str) -> int:
        return next(i for i, col in enumerate(self.table.columns) if col.source == source)
