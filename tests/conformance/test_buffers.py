"""Every data buffer of our own does what a data buffer must do."""

from __future__ import annotations

import pytest

from anchovies.store.buffers import Buffer, buffer_named
from anchovies.testing.buffer import BufferSuite


class TestParquet(BufferSuite):
    @pytest.fixture
    def buffer(self) -> Buffer:
        return buffer_named("parquet")


class TestJsonLines(BufferSuite):
    @pytest.fixture
    def buffer(self) -> Buffer:
        return buffer_named("jsonl")
