"""The figures of a service as Prometheus reads them: text exposition format 0.0.4."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from anchovies import __version__
from anchovies.engine.board import Now, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
Samples = list[tuple[Mapping[str, str], float]]


class Who(msgspec.Struct, frozen=True):
    """The labels that say whose figures they are."""

    user: str
    id: str
    operator: str


def exposition(now: Now, who: Who) -> str:
    """Every figure that is known. A figure that is not known yet is left out: a 0 would be read as 1970."""
    mine = {"user": who.user, "anchovy": who.id}
    return "".join(_family(*one) for one in _families(now, who, mine) if one[3])


def _families(now: Now, who: Who, mine: Mapping[str, str]) -> Iterator[tuple[str, str, str, Samples]]:
    """(name, type, help, samples)."""

    def one(value: float | None) -> Samples:
        return [] if value is None else [(mine, value)]

    def each(read: str) -> Samples:
        return [({**mine, "tbl": tbl}, getattr(tally, read)) for tbl, tally in now.tables.items()]

    def upstreams(values: Mapping[str, float]) -> Samples:
        return [({**mine, "upstream": u}, v) for u, v in values.items()]

    info = {**mine, "operator": who.operator, "version": __version__}
    yield "anchovy_info", "gauge", "What runs; always 1.", [(info, 1)]
    yield "anchovy_start_time_seconds", "gauge", "When the service started, seconds since 1970.", one(now.started)
    yield "anchovy_batches_total", "counter", "Batches that have ended.", one(now.batches)
    yield "anchovy_batch_failures_total", "counter", "Batches in which something failed.", one(now.failed)
    yield "anchovy_batch_failures_in_a_row", "gauge", "Failed batches since the last one that went well.", one(now.streak)
    yield "anchovy_batch_running", "gauge", "1 while a batch runs, 0 in a pause.", one(now.running is not None)
    yield "anchovy_batch_duration_seconds", "gauge", "How long the last batch took.", one(now.duration)
    yield "anchovy_last_batch_timestamp_seconds", "gauge", "When the last batch ended.", one(now.ended)
    yield "anchovy_last_success_timestamp_seconds", "gauge", "When the last batch that went well ended.", one(now.succeeded)
    yield "anchovy_wakes_total", "counter", "Pauses that a commit of an upstream ended.", one(now.wakes)
    yield "anchovy_reloads_total", "counter", "How often a changed configuration was taken.", one(now.reloads)
    yield "anchovy_slot", "gauge", "How far the anchovy's own log is.", one(now.slot)
    for field, what in zip(Tally.__struct_fields__, _TALLIED, strict=True):
        yield f"anchovy_table_{field}_total", "counter", what, each(field)
    yield "anchovy_lag_commits", "gauge", "Commits of an upstream that are not loaded.", upstreams(_commits(now))
    yield "anchovy_lag_seconds", "gauge", "How long something has been waiting, at most.", upstreams(_behind(now))
    yield from _process()


_TALLIED = (
    "Rows committed or loaded.", "Their bytes.", "Commits that brought rows.", "Tasks that failed.", 
    "Rows that went to the rejects.",
)  # fmt: skip


def _commits(now: Now) -> dict[str, float]:
    return {u: lag.commits for u, lag in now.lags.items()}


def _behind(now: Now) -> dict[str, float]:
    return {u: now.behind(u) for u in now.lags}


def _process() -> Iterator[tuple[str, str, str, Samples]]:
    """Named as the client libraries of Prometheus name them."""
    yield "process_threads", "gauge", "Threads of the interpreter.", [({}, threading.active_count())]
    with suppress(OSError):  # where there is no /proc
        yield "process_open_fds", "gauge", "Open file descriptors.", [({}, len(os.listdir("/proc/self/fd")))]
        with open("/proc/self/statm") as f:
            pages = int(f.read().split()[1])
        size = pages * os.sysconf("SC_PAGE_SIZE")
        yield "process_resident_memory_bytes", "gauge", "Resident memory.", [({}, size)]


def _family(name: str, kind: str, help: str, samples: Samples) -> str:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{k}="{v.translate(_ESCAPES)}"' for k, v in labels.items())
    return f"{{{inner}}}" if inner else ""


def _number(value: float) -> str:
    """Whole numbers as such, others with all their digits."""
    return str(int(value)) if value == int(value) else repr(float(value))
