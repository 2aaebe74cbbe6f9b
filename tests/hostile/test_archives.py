"""Gzip files that are cut, damaged, nested, disguised or bombs: rows are never made up, and memory stays bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [(f"a {i}", f"b {i}", i % 2) for i in range(400)]
CSV = "text_a,text_b,label\n" + "".join(f"{a},{b},{label}\n" for a, b, label in ROWS)
JSONL = "".join(json.dumps({"text_a": a, "text_b": b, "label": label}) + "\n" for a, b, label in ROWS)
TABLES = {".csv": CSV.encode(), ".jsonl": JSONL.encode()}


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def in_zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pairs.csv", content)
    return stream.getvalue()


def in_tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("pairs.csv")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def with_flags(content: bytes, flags: int, extra: bytes) -> bytes:
    """Compress with further fields in the header."""
    whole = packed(content)
    return whole[:3] + bytes([flags]) + whole[4:10] + extra + whole[10:]


DAMAGES = {
    "no end": lambda c: packed(c)[:-8],
    "half of the end": lambda c: packed(c)[:-4],
    "wrong checksum": lambda c: packed(c)[:-8] + struct.pack("<II", 1, len(c)),
    "wrong size": lambda c: packed(c)[:-4] + struct.pack("<I", len(c) + 1),
    "unknown method": lambda c: packed(c)[:2] + b"\x07" + packed(c)[3:],
    "only the magic number": lambda c: b"\x1f\x8b",
    "only a header": lambda c: packed(c)[:10],
    "a name without an end": lambda c: with_flags(c, 8, b"a" * 3)[:13],
    "further fields longer than the file": lambda c: with_flags(c, 4, b"\xff\xff"),
    "garbage after it": lambda c: packed(c) + b"garbage",
    "half a member after it": lambda c: packed(c) + packed(c)[:40],
    "zlib without a header": lambda c: b"\x1f\x8b" + zlib.compress(c),
    "gzip in gzip": lambda c: packed(packed(c)),
    "a zip archive": in_zip,
    "a zip archive in gzip": lambda c: packed(in_zip(c)),
    "a tar archive": in_tar,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "damaged in the middle": lambda c: packed(c)[:500] + bytes(100) + packed(c)[600:],
    "a gigabyte of zeros": lambda c: packed(bytes(1 << 16)) * 16384,
    "nothing": lambda c: packed(b""),
}
READABLE = {
    "a name of 100 kB": lambda c: with_flags(c, 8, b"a" * 100_000 + b"\0"),
    "further fields": lambda c: with_flags(c, 4, struct.pack("<H", 5) + b"abcde"),
    "a comment": lambda c: with_flags(c, 16, b"comment\0"),
    "a member for every byte": lambda c: b"".join(packed(c[i : i + 1]) for i in range(len(c))),
    "empty members between": lambda c: packed(b"") * 50 + packed(c) + packed(b"") * 50,
    "zeros after it": lambda c: packed(c) + bytes(512),
    "not compressed": lambda c: gzip.compress(c, compresslevel=0),
    "no gzip at all": lambda c: c,
}


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_an_error(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"pairs{suffix}.gz"
    path.write_bytes(DAMAGES[damage](TABLES[suffix]))
    with pytest.raises(InvalidPairsError) as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("name", ["pairs{}.gz", "pairs{}"])
@pytest.mark.parametrize("form", READABLE)
def test_every_form_of_gzip_is_read_under_any_name(tmp_path: Path, suffix: str, name: str, form: str) -> None:
    path = tmp_path / name.format(suffix)
    path.write_bytes(READABLE[form](TABLES[suffix]))
    pairs = read_pairs(path)
    assert list(zip(pairs.a, pairs.b, pairs.label.tolist(), strict=True)) == ROWS


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("part", range(20))
def test_an_archive_that_is_cut_writes_nothing(tiny_matcher: Path, tmp_path: Path, suffix: str, part: int) -> None:
    whole = packed(TABLES[suffix])
    path, out = tmp_path / f"pairs{suffix}.gz", tmp_path / "out.csv"
    path.write_bytes(whole[: 2 + part * (len(whole) - 2) // 20])
    done = CliRunner().invoke(cli, ["score", str(tiny_matcher), str(path), "--out", str(out), "--on-error", "skip"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("flipkd: error: ")
    assert not out.exists()
