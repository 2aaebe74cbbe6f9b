"""Every encoding of Python, and texts of any characters: read exactly, or refused in one line."""

from __future__ import annotations

import encodings.aliases
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from flipkd_sdk.cli.main import cli
from flipkd_sdk.errors import InvalidPairsError
from flipkd_sdk.pairs import read_pairs

if TYPE_CHECKING:
    from pathlib import Path

ENCODINGS = sorted(set(encodings.aliases.aliases.values()) | {"utf_8_sig", "idna", "undefined", "unicode_escape"})
ROWS = [("How do I reset my PIN?", "I forgot the PIN, what now?", 1), ("Top up", "Fee", 0)]
TABLE = 'text_a,text_b,label\r\n"How do I reset my PIN?","I forgot the PIN, what now?",1\r\nTop up,Fee,0\r\n'
NO_TEXT = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "idna"}
NO_TEXT |= {"undefined", "mbcs", "oem"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_in_any_encoding_is_read_exactly_or_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(TABLE.encode("utf-8" if encoding in NO_TEXT else encoding))
    try:
        pairs = read_pairs(path, encoding=encoding)
    except InvalidPairsError as error:
        assert encoding in NO_TEXT or encoding in ("punycode", "unicode_escape", "raw_unicode_escape", "utf_7")
        assert "\n" not in str(error)
        return
    assert encoding not in NO_TEXT
    assert list(zip(pairs.a, pairs.b, pairs.label.tolist(), strict=True)) == ROWS


@pytest.mark.parametrize("read_as", ["utf-8", "utf-16", "utf-32", "cp1252", "ascii", "gb18030", "shift_jis"])
@pytest.mark.parametrize("written_as", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "cp037"])
def test_a_table_in_another_encoding_is_one_line_of_error(tmp_path: Path, written_as: str, read_as: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(TABLE.replace("Fee", "Fée").encode(written_as))
    try:
        pairs = read_pairs(path, encoding=read_as)
    except InvalidPairsError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
    else:
        # The table's own bytes have a meaning in both.
        assert len(pairs) == 2 and (pairs.a[0], pairs.label.tolist()) == (ROWS[0][0], [1, 0])


CHARACTERS = {
    "line separators": "a\u2028b\u2029c\x85d", "vertical tab and form feed": "a\vb\fc",
    "information separators": "\x1c\x1d\x1e\x1f", "delete and escape": "\x7f\x1b[31mred",
    "right to left": "\u202eabc\u2066", "zero width": "\u200b\u200d\ufeff", "no characters": "\ufffe\uffff\U0010ffff",
    "a long cluster": "e" + "\u0301" * 500, "private use": "\ue000\U000f0000", "tags": "\U000e0041\U000e007f",
    "a family": "\u200d".join("\U0001f469\U0001f467\U0001f466"), "flags": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "every plane": "".join(chr(0x10000 * i + 0x100) for i in range(17)), "a ligature of 18": "\ufdfa" * 20,
    "SUB": "a\x1ab", "quotes": '""\'\'``', "formulas": "=cmd|' /C calc'!A0", "an escape of JSON": '\\u0041\\"',
    "white space": " \t\u00a0\u3000", "a reference": "${jndi:ldap://x}%s%n{0}",
}  # fmt: skip


@pytest.mark.parametrize("name", CHARACTERS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_text_of_any_characters_comes_back_unchanged(
    tiny_matcher: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    text = CHARACTERS[name]
    path, out = tmp_path / f"p.{suffix}", tmp_path / "out.jsonl"
    if suffix == "csv":
        path.write_text('text_a,text_b\n"{}",b\n'.format(text.replace('"', '""')), encoding="utf-8", newline="")
    elif suffix == "jsonl":
        path.write_text(json.dumps({"text_a": text, "text_b": "b"}) + "\n", encoding="utf-8")
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"text_a": [text], "text_b": ["b"]}), path)
    done = CliRunner().invoke(cli, ["score", str(tiny_matcher), str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    row = json.loads(out.read_text(encoding="utf-8"))
    assert row["text_a"] == text
    assert 0 <= row["score"] <= 1
