"""Unpack compressed messages up to a limit: a small message can unpack to more than all memory.

kombu's messages are unpacked in their constructor, by their header ``compression``.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any

from kombu.compression import decompress
from kombu.exceptions import DecodeError
from kombu.message import Message

#: Bytes that xz's strongest preset needs.
LZMA_MEMORY = 2**27

#: Decompressors that can stop at a limit, by kombu's names.
UNPACKERS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), lambda: zlib.decompressobj()),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), lambda: bz2.BZ2Decompressor()),
    **dict.fromkeys(
        ("application/x-lzma", "lzma", "xz"), lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    ),
}


def unpacked(body: Any, kind: object, limit: int, *, knows_others: bool) -> Any:
    """The body; raises DecodeError if it is longer than the limit, or damaged."""
    if not isinstance(kind, str) or not isinstance(body, (str, bytes, bytearray, memoryview)):
        raise DecodeError(f"it says that it is compressed as {kind!r:.100}")
    if kind not in UNPACKERS:
        if knows_others:
            return decompress(body, kind)
        raise DecodeError(f"it is compressed as {kind!r:.100}, which is not used here")
    unpacker = UNPACKERS[kind]()
    content = unpacker.decompress(body.encode() if isinstance(body, str) else body, limit)
    if not unpacker.eof:
        raise DecodeError(f"it is damaged, or holds over {limit} bytes when it is unpacked")
    return content


class Unpacking(Message):
    """Stands between a transport's message and kombu's own, which unpacks without a limit."""

    def __init__(self, body: Any = None, headers: Any = None, **options: Any) -> None:
        headers = headers if headers is not None else {}
        if isinstance(headers, dict) and headers.get("compression"):
            headers = dict(headers)
            try:
                limit, is_guest = options["channel"].unpacking
                body = unpacked(body, headers.pop("compression"), limit, knows_others=is_guest)
            except Exception:  # a decoder may raise anything
                self.errors = [sys.exc_info()]  # kombu's consumer asks for them
        super().__init__(body=body, headers=headers, **options)  # type: ignore[no-untyped-call]
