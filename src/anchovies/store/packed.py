"""Gzip whose bytes depend on the content only, and which is read without trusting a single byte of it."""

from __future__ import annotations

import struct
import zlib

from anchovies.core.errors import CorruptDatastore

#: no name, no time, unknown system: the same content gives the same bytes everywhere
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
MAX_UNPACKED = 1 << 30


def pack(data: bytes) -> bytes:
    """`data` as one gzip member, deterministic."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    tail = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return _HEADER + deflate.compress(data) + deflate.flush() + tail


def unpack(data: bytes, key: str, hint: str, limit: int = MAX_UNPACKED) -> bytes:
    """What `pack` was given. Raises CorruptDatastore for anything that it did not write, or over `limit`."""
    inflate = zlib.decompressobj(-15)
    try:
        out = inflate.decompress(data[len(_HEADER) :], limit)
    except zlib.error:
        out = b""
    tail = struct.pack("<II", zlib.crc32(out), len(out) & 0xFFFFFFFF)
    if not data.startswith(_HEADER) or not inflate.eof or inflate.unused_data != tail:
        raise CorruptDatastore(f"{key} is damaged: it is not a whole gzip file ({len(data)} bytes)", hint=hint, key=key)
    return out
