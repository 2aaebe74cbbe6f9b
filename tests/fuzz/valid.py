"""Valid files of every kind, which mutation damages."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq

from flipkd_sdk.cli.scoring.journal import Journal
from flipkd_sdk.cli.scoring.local_engine import identity_of

if TYPE_CHECKING:
    from fuzz.readers import Bench

ROOT = Path(__file__).parents[2]
PAIRS = (
    "text_a,text_b,label,kind,teacher_score,note\r\n"
    '"How do I reset my PIN?","I forgot, the ""PIN""",1,paraphrase,0.9,=1+1\r\n'
    '如何重置我的密码？,"two\nlines",0,negation,-0.5,ünï\r\n'
    ",   ,yes,number,1,\r\n"
    "Top up,Fee,false,number,0,x\r\n"
).encode()
OBJECTS = (
    b'{"text_a": "How do I reset my PIN?", "text_b": "I forgot it", "label": 1, "kind": "x", "teacher_score": 0.5}\n'
    b'{"text_a": "\\u5982\\ud83d\\ude00", "text_b": "", "label": 0, "kind": "y", "teacher_score": -1, "n": [1, {}]}\n'
    b'\n{"text_a": "c", "text_b": "d", "label": "no", "kind": "z", "teacher_score": 1e-3}\n'
)
COLUMNS = ["text_a", "text_b", "label", "kind", "teacher_score"]


def resume_files(bench: Bench) -> list[bytes]:
    pairs = [("How do I reset my PIN?", 'I forgot, the "PIN"'), ("如何重置我的密码？", "two\nlines"), ("", "   ")]
    files = []
    for rows, finished in ((0, False), (1, False), (3, False), (4, True)):
        path = bench.directory / "valid.resume"
        identity = {**identity_of(bench.opened, "zero"), "--a-column": "text_a", "--b-column": "text_b"}
        journal = Journal(path, identity)
        journal.append([*pairs, ("Top up", "Fee")][:rows], np.linspace(0, 1, rows, dtype=np.float32))
        if finished:
            journal.finish()
        journal.close()
        files.append(path.read_bytes())
        path.unlink()
    return files


def parquet_of(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def parquet_files(_: Bench) -> list[bytes]:
    rows = {
        "text_a": ["How do I reset my PIN?", "如何", "", "Top up"] * 5,
        "text_b": ["a", "b", "c", "d"] * 5,
        "n": [{"x": [1, None]}] * 20,
        "when": pa.array([0, 1] * 10, pa.timestamp("us", "UTC")),
    }
    table = pa.table(rows)
    plain = table.select(["text_a", "text_b"])
    return [
        parquet_of(table),
        parquet_of(plain, compression="none", use_dictionary=False),
        parquet_of(plain, compression="zstd", row_group_size=3, version="1.0", data_page_version="2.0"),
        parquet_of(plain.cast(pa.schema([("text_a", pa.large_string()), ("text_b", pa.string())])), compression="gzip"),
    ]


def models(bench: Bench) -> list[bytes]:
    plain = (bench.matcher / "model_fp32.onnx").read_bytes()
    model = onnx.ModelProto.FromString(plain)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "read_out")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return [plain, model.SerializeToString()]


def tokenizers(bench: Bench) -> list[bytes]:
    plain = (bench.matcher / "tokenizer.json").read_bytes()
    content = json.loads(plain)
    words = {
        "type": "WordPiece",
        "unk_token": "<pad>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 50,
    }
    pieces = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [["<pad>", 0.0], ["a", -1.0], ["b", -2.0]],
        "byte_fallback": False,
    }
    vocabulary = {"vocab": dict(list(content["model"]["vocab"].items())[:60])}
    steps = [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}]
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}| ?\p{L}+"}, "behavior": "Isolated", "invert": False}
    return [
        plain,
        json.dumps({**content, "normalizer": {"type": "Sequence", "normalizers": steps}}).encode(),
        json.dumps(
            {
                **content,
                "normalizer": {**bert, "lowercase": True},
                "pre_tokenizer": {"type": "BertPreTokenizer"},
                "model": words | vocabulary,
            }
        ).encode(),
        json.dumps({**content, "pre_tokenizer": split, "model": pieces}).encode(),
    ]


def packs(_: Bench) -> list[bytes]:
    packs = ROOT / "flipkd_sdk" / "contrast" / "packs"
    small = b"""language = "xx"
extends = "en"
kinds_off = ["number"]
[lists]
places = ["here", "there"]
[[exchange]]
kind = "place"
label = 0
sets = [["here", "there"]]
[[rewrite]]
kind = "polite"
label = 1
pattern = "^(?P<rest>.+)$"
replace = "please {rest}"
"""
    return [small, small.replace(b'extends = "en"\n', b"").replace(b'kinds_off = ["number"]\n', b"")] + [
        path.read_bytes() for path in sorted(packs.glob("*.toml"))
    ]


def configs(_: Bench) -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "examples").rglob("train*.toml"))]
