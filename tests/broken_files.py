"""Files made by hand to exhaust memory or time, and what is said of each."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

import own_files
from own_files import Files

ZEROS = bytes(2**20)


@cache
def packed_zeros(megabytes: int, head: bytes = b"") -> bytes:
    """A gzip file of zeros behind a head."""
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", mtime=0) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(ZEROS)
    return data.getvalue()


def idx_header(*shape: int, code: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


def with_labels(images: bytes, suffix: str = "") -> Files:
    """Images beside the labels of twenty of them."""
    labels = own_files.images()["some-labels-idx1-ubyte"]
    return {f"some-images-idx3-ubyte{suffix}": images, "some-labels-idx1-ubyte": labels}


def npy(header: str, data: bytes = b"") -> bytes:
    """An npy file of version 1.0 with such a header."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def archive(*members: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Files:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", packing) as file:
        for name, content in members:
            file.writestr(name, content)
    return {"data.npz": data.getvalue()}


@cache
def lying_archive() -> Files:
    """A member that unpacks to 256 MiB and says that it has 1,000 bytes."""
    size = 2**28
    content = archive(("kind.npy", npy("{}") + bytes(size)))["data.npz"]
    true = len(npy("{}")) + size
    return {"data.npz": content.replace(struct.pack("<I", true), struct.pack("<I", 1000))}


def array_of(shape: str, descr: str = "<f8") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


@cache
def huge_picture(side: int) -> Files:
    """A PNG of so many black pixels each way, in a thousandth of the bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return {**own_files.pictures(), "pictures/a/0.png": content}


def lying_wav(place: bytes, field: str, value: int, behind: int = 4) -> Files:
    """A sound with a number of its header replaced."""
    files = own_files.sounds()
    name = next(iter(files))
    content = bytearray(files[name])
    struct.pack_into(field, content, content.index(place) + behind, value)
    if field == "<I" and place == b"fmt ":  # the rate: the bytes a second must fit it
        struct.pack_into("<I", content, content.index(place) + behind + 4, value * 2 % 2**32)
    return {**files, name: bytes(content)}


BOMBS: dict[str, tuple[Callable[[], Files], str]] = {
    "gzip of zeros": (lambda: {"an-images-idx3-ubyte.gz": packed_zeros(256)}, "is none of what can be read"),
    "gzip that goes on behind the images": (
        lambda: with_labels(packed_zeros(256, idx_header(20, 5, 4)), ".gz"),
        "goes on behind",
    ),
    "gzip of as many zeros as it says": (
        lambda: with_labels(packed_zeros(256, idx_header(2**14, 2**7, 2**7)), ".gz"),
        "a file of its size holds",
    ),
    "images that a header only claims": (
        lambda: with_labels(idx_header(2**31, 2**31, 2**31)),
        "a file of its size holds",
    ),
    "no images at all": (lambda: with_labels(idx_header(0, 28, 28)), "a file of its size holds"),
    "doubles": (lambda: with_labels(idx_header(2, 2, 2, code=0x0E) + bytes(64)), "not images"),
    "labels that a header only claims": (
        lambda: {**own_files.images(), "some-labels-idx1-ubyte": idx_header(2**32 - 1) + bytes(20)},
        "a file of its size holds",
    ),
    "npz of zeros": (
        lambda: archive(("kind.npy", npy(array_of("(134217728,)", "|u1"), bytes(2**27)))),
        "of a file of its size",
    ),
    "npz with a member that lies": (lying_archive, "cannot be read"),
    "array that a header only claims": (
        lambda: archive(("kind.npy", npy(array_of("(1099511627776, 8)")))),
        "0 bytes are there",
    ),
    "array of objects": (lambda: archive(("kind.npy", npy(array_of("(10,)", "|O")))), "Python objects"),
    "header of brackets": (lambda: archive(("kind.npy", npy("(" * 100))), "cannot be read"),
    "array packed otherwise": (
        lambda: archive(("kind.npy", ZEROS), packing=zipfile.ZIP_LZMA),
        "packed in a way NumPy does not write",
    ),
    "many arrays": (
        lambda: archive(*((f"{i}.npy", b"") for i in range(10_001)), packing=zipfile.ZIP_STORED),
        "10001 arrays",
    ),
    "huge picture": (lambda: huge_picture(20_000), "pixels"),
    "picture larger than is read": (lambda: huge_picture(4_100), "has 4100 × 4100 pixels"),
    "sound of a rate that no filter reaches": (lambda: lying_wav(b"fmt ", "<I", 700_001, 12), "too odd"),
    "sound of a rate beyond all": (lambda: lying_wav(b"fmt ", "<I", 1_000_000, 12), "rate of 1000000 Hz"),
    "many columns": (lambda: {"t.csv": b"a," * 10**6 + b"b\n" + b"1," * 10**6 + b"2\n"}, "columns: at most"),
    "one long cell": (lambda: {"t.csv": b"a,kind\n" + b"x" * 2**24 + b",1\n"}, "field larger than"),
    "many levels": (
        lambda: {"t.csv": b"a,kind\n" + b"".join(b"name%d,%d\n" % (i // 4, i % 2) for i in range(20_000))},
        "5000 distinct values",
    ),
    "NUL bytes as text": (lambda: {"t.txt": ZEROS}, "is none of what can be read"),
    "one character": (lambda: {"t.txt": b"a" * 2**20}, "throughout"),
}  # fmt: skip
"""Files, and a part of the message."""
