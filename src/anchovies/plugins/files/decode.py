"""From the bytes that lie in a file to UTF-8 text: unpacked, transcoded, without a byte order mark."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterable, Iterator

from anchovies.plugins.files.layout import Layout
from anchovies.sdk import SourceError

_MAGIC = b"\x1f\x8b"
_OUT = 4 << 20  # unpacked at most at once, so that a bomb cannot fill the memory
_FREE = 16 << 20  # below this no ratio is refused: small files may be all blanks


def utf8(chunks: Iterable[bytes], path: str, layout: Layout) -> Iterator[bytes]:
    """UTF-8 bytes of a file. Raises SourceError naming the file and the byte where it goes wrong.

    UTF-8 input is handed on as it is; whoever parses it checks it (in the same pass).
    """
    plain = unpacked(chunks, path, layout)
    if layout.encoding in ("utf-8", "utf-8-sig"):
        return _without_bom(plain, path)
    return _transcoded(plain, path, layout.encoding)


def unpacked(chunks: Iterable[bytes], path: str, layout: Layout) -> Iterator[bytes]:
    """The bytes, unpacked if the name ends in `.gz` or the file begins like gzip."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= 2:
            break
    if head and (path.lower().endswith(".gz") or head.startswith(_MAGIC)):
        yield from _gunzip(head, source, path, layout)
    elif head:
        yield head
        yield from source


def _gunzip(head: bytes, source: Iterator[bytes], path: str, layout: Layout) -> Iterator[bytes]:
    taken, given = 0, 0
    engine = zlib.decompressobj(wbits=31)
    fresh = True  # between two members: the end of the file is welcome
    for chunk in _chain(head, source):
        taken += len(chunk)
        data = chunk
        while data:
            if engine.eof:
                data = data.lstrip(b"\0")  # tapes and some tools pad with zeros
                engine, fresh = zlib.decompressobj(wbits=31), True
                continue
            out = _inflate(engine, data, path, taken)
            given += len(out)
            _check_bomb(taken, given, path, layout)
            yield out
            fresh = False
            data = engine.unused_data if engine.eof else engine.unconsumed_tail
    if not engine.eof and not (fresh and given):
        raise SourceError(f"{path}: the gzip data break off after {taken:,} bytes", hint="copy the file again", file=path)


def _chain(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from source


def _inflate(engine: zlib._Decompress, data: bytes, path: str, taken: int) -> bytes:
    try:
        return engine.decompress(data, _OUT)
    except zlib.error as e:
        raise SourceError(
            f"{path}: damaged gzip data before byte {taken:,} ({e})", hint="copy the file again", file=path
        ) from None


def _check_bomb(taken: int, given: int, path: str, layout: Layout) -> None:
    if given > layout.gzip_max_bytes:
        raise SourceError(
            f"{path}: unpacks to more than {layout.gzip_max_bytes:,} bytes",
            hint="set `gzip_max_bytes:` if that is right",
            file=path,
        )
    if given > _FREE and given > taken * layout.gzip_max_ratio:
        raise SourceError(
            f"{path}: unpacks to more than {layout.gzip_max_ratio} times its size",
            hint="set `gzip_max_ratio:` if the file is to be trusted",
            file=path,
        )


def _without_bom(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4:
            break
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError(f"{path}: byte 0: this is UTF-16, not UTF-8", hint="set `encoding: utf-16`", file=path)
    if head := head.removeprefix(codecs.BOM_UTF8):
        yield head
    yield from chunks


def _transcoded(chunks: Iterator[bytes], path: str, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    seen, first = 0, True
    for chunk in chunks:
        held = len(decoder.getstate()[0])
        text = _step(decoder, chunk, path, encoding, seen - held)
        seen += len(chunk)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if text:
            yield text.encode()
    if rest := _step(decoder, b"", path, encoding, seen - len(decoder.getstate()[0]), final=True):
        yield rest.encode()


def _step(decoder: codecs.IncrementalDecoder, chunk: bytes, path: str, encoding: str, offset: int, *, final: bool = False) -> str:
    try:
        text = decoder.decode(chunk, final)
        text.encode()  # lone surrogates, which some decoders let pass
    except UnicodeError as e:
        raise wrong_encoding(path, encoding, offset + (e.start if isinstance(e, UnicodeDecodeError) else 0)) from None
    return text


def wrong_encoding(path: str, encoding: str, byte: int, line: int | None = None) -> SourceError:
    """The error for text that is not what it should be; `byte` counts from 0, after unpacking."""
    at = f" (line {line:,})" if line else ""
    return SourceError(
        f"{path}: byte {byte:,}{at} is not {encoding}",
        hint="set `encoding:` of the table to what the file is in, for example cp1252, latin-1 or utf-16",
        file=path,
        line=line,
    )
