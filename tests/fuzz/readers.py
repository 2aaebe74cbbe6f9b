"""Every reader of files that come from somebody else, with valid files to damage."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import onnx
from click.testing import CliRunner
from fuzz import generated, valid, words
from fuzz.mutation import (
    mutate_bytes,
    mutate_gzip,
    mutate_json,
    mutate_json_lines,
    mutate_protobuf,
)
from tiny import TEXTS, add_self_test, replace_model, tiny_model, tiny_tokenizer, write_manifest, write_tiny_matcher

from flipkd_sdk.artifact.manifest import MANIFEST_FILE, TokenizerSpec, read_manifest
from flipkd_sdk.artifact.reference_vectors import SELF_TEST_FILE
from flipkd_sdk.cli.main import cli
from flipkd_sdk.contrast.pack_file import load_pack
from flipkd_sdk.contrast.reader import read_contrast_pairs
from flipkd_sdk.errors import FlipKDError
from flipkd_sdk.pairs import read_pairs, read_texts
from flipkd_sdk.runtimes.encoding.tokenizer import load_tokenizer
from flipkd_sdk.runtimes.matcher import Matcher
from flipkd_sdk.runtimes.onnx.external_data import has_external_data
from flipkd_sdk.runtimes.onnx.session import open_session
from flipkd_sdk.runtimes.search.candidates import CandidateSet
from flipkd_sdk.runtimes.search.files import MANIFEST_FILE as CANDIDATES_FILE
from flipkd_sdk.runtimes.search.files import TEXTS_FILE, VECTORS_FILE
from flipkd_sdk.training.config.load import load_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.mutation import Mutator
    from hypothesis.strategies import SearchStrategy

DIMENSION = 4
HIDDEN = 4
ROOT = Path(__file__).parents[2]
SPEC = TokenizerSpec("tokenizer.json", "", 0, max_length=32, empty_token_id=1, special_tokens=())


class WrongResultError(Exception):
    """A reader that broke a promise without raising."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A directory with valid files; a case replaces one of them, and nothing outside it may be opened."""

    directory: Path
    matcher: Path
    opened: Matcher

    @classmethod
    def create(cls, directory: Path) -> Bench:
        """Write the files."""
        directory.mkdir()
        matcher = write_tiny_matcher(directory / "matcher", dimension=DIMENSION)
        replace_model(
            matcher, tiny_model(vocabulary=tiny_tokenizer().get_vocab_size(), dimension=DIMENSION, hidden=HIDDEN)
        )
        add_self_test(matcher)
        # Named in no manifest.
        (matcher / "weights.bin").write_bytes(bytes(4 * HIDDEN * DIMENSION))
        opened = Matcher.load(matcher)
        opened.candidates(TEXTS).save(directory / "candidates")
        return cls(directory, matcher, opened)

    def clear(self) -> None:
        """Remove what a case has written."""
        for path in self.directory.iterdir():
            if path.name not in ("matcher", "candidates"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@dataclass(frozen=True, slots=True)
class Reader:
    """One kind of file."""

    read: Callable[[Bench, bytes], None]
    """Reads a case with everything of the package that reads such a file; raises `FlipKDError` to refuse it."""
    valid: Callable[[Bench], list[bytes]]
    """Returns valid files."""
    mutate: Mutator
    words: Sequence[bytes] = ()
    """Strings that mean something in the format."""
    generated: SearchStrategy[bytes] | None = None
    """Files made by hypothesis."""


def flipkd(bench: Bench, *arguments: str | Path, out: str | None = None) -> None:
    """Run the command line in this process, and check what it promises of its output and exit code."""
    done = CliRunner().invoke(cli, [*map(str, arguments), *(("--out", str(bench.directory / out)) if out else ())])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("flipkd: warning: ", "flipkd: "))]
    if done.exit_code == 1:
        if not done.stderr.splitlines()[-1].startswith("flipkd: error: ") or errors:
            raise WrongResultError(f"not one line of error: {done.stderr[-300:]}")
        raise FlipKDError(done.stderr)
    if done.exit_code != 0:
        raise WrongResultError(f"exit code {done.exit_code}: {done.stderr[-300:]}")


def choice(content: bytes, count: int) -> int:
    """Choose an option by the content, so that a case is the same in every run."""
    return zlib.crc32(content) % count


# Matcher directories.


def read_whole_manifest(bench: Bench, content: bytes) -> None:
    path = bench.matcher / MANIFEST_FILE
    kept = path.read_bytes()
    path.write_bytes(content)
    try:
        read_manifest(bench.matcher)
        with Matcher.load(bench.matcher) as matcher:
            matcher.score("a", "b")
    finally:
        path.write_bytes(kept)


def read_tokenizer_file(bench: Bench, content: bytes) -> None:
    path = bench.directory / "tokenizer.json"
    path.write_bytes(content)
    tokenizer = load_tokenizer(path, SPEC)
    for ids in tokenizer.encode([*TEXTS, "a" * 500, "\ufdfa \U0001f600 \ud800 \0", " a1<m>\u95ee" * 1000]):
        if not 0 < len(ids.ids) <= SPEC.max_length:
            raise WrongResultError(f"{len(ids.ids)} tokens")


def read_model(bench: Bench, content: bytes) -> None:
    path = bench.matcher / "case.onnx"
    path.write_bytes(content)
    try:
        try:
            external = has_external_data(content)
        except ValueError:
            external = None
        if external is False and names_other_files(content):
            raise WrongResultError("weights in another file are not found")
        session = open_session(path, device="cpu", threads=1, dimension=DIMENSION)
        vectors = session.run(np.array([[3, 4, 5]]), np.array([[1, 1, 1]]))
        if vectors.shape[0] != 1:
            raise WrongResultError(f"vectors of shape {vectors.shape}")
    finally:
        path.unlink()


def names_other_files(content: bytes) -> bool:
    """Return True if onnx's own parser finds a tensor with external data in the graph's weights."""
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:  # noqa: BLE001 - protobuf's errors have no common base
        return False
    tensors = [*model.graph.initializer]
    for node in model.graph.node:
        tensors += [attribute.t for attribute in node.attribute]
    return any(len(tensor.external_data) for tensor in tensors)


def read_vectors_file(bench: Bench, content: bytes) -> None:
    path = bench.matcher / SELF_TEST_FILE
    kept, manifest = path.read_bytes(), read_manifest(bench.matcher)
    assert manifest.self_test is not None
    path.write_bytes(content)
    entry = dataclasses.replace(manifest.self_test, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    write_manifest(bench.matcher, dataclasses.replace(manifest, self_test=entry))
    try:
        Matcher.load(bench.matcher).close()
    finally:
        path.write_bytes(kept)
        write_manifest(bench.matcher, manifest)


# Tables.


def read_table(suffix: str) -> Callable[[Bench, bytes], None]:
    """Return a reader of a table of text by one of the ways in which the package reads tables."""

    def read(bench: Bench, content: bytes) -> None:
        path = bench.directory / f"table{suffix}"
        path.write_bytes(content)
        way = choice(content, 12)
        match way:
            case 0:
                read_pairs(path, teacher_score_column="teacher_score")
            case 1:
                read_pairs(path)
            case 2:
                read_texts(path, column="text_a")
            case 3:
                read_contrast_pairs(path)
            case 4:
                text = path.with_suffix(".txt")
                path.rename(text)
                read_texts(text)
            case 5:
                flipkd(bench, "evaluate", bench.matcher, path, "--resamples", "0")
            case 6:
                columns = ("--query-column", "text_a", "--candidate-column", "text_b")
                flipkd(bench, "rank", bench.matcher, path, path, *columns, out="out.csv")
            case _:
                score(bench, path, content)

    return read


def score(bench: Bench, path: Path, content: bytes) -> None:
    """Score a table with options that its content chooses; an output exists if and only if that succeeds."""
    options = [
        (),
        ("--on-error", "skip"),
        ("--on-error", "skip", "--max-row-length", "1000"),
        ("--encoding", "utf-16"),
        ("--encoding", "cp1252", "--on-error", "skip"),
        ("--escape-formulas",),
        ("--a-column", "1", "--b-column", "2", "--no-header"),
        ("--encoding", "gb18030", "--delimiter", ";"),
    ][choice(content[::-1], 8)]
    if path.suffix == ".parquet" and "--no-header" in options:
        options = ()
    out = ("out.csv", "out.jsonl", "out.parquet", "out.csv.gz")[choice(content + b"out", 4)]
    written = bench.directory / out
    try:
        flipkd(bench, "score", bench.matcher, path, *options, out=out)
    except FlipKDError:
        if written.exists():
            raise WrongResultError(f"{out} exists after an error") from None
        raise
    if not written.exists():
        raise WrongResultError(f"{out} is missing")


def read_parquet(bench: Bench, content: bytes) -> None:
    path = bench.directory / "table.parquet"
    path.write_bytes(content)
    score(bench, path, content)


def read_resume_file(bench: Bench, content: bytes) -> None:
    table, out = bench.directory / "table.csv", bench.directory / "out.csv"
    table.write_bytes(valid.PAIRS)
    if choice(content, 4) == 0:
        out.write_bytes(b"from an earlier run")
    (bench.directory / "out.csv.resume").write_bytes(content)
    flipkd(bench, "score", bench.matcher, table, "--resume", out="out.csv")


# Candidates.


def read_candidates(name: str) -> Callable[[Bench, bytes], None]:
    """Return a reader of candidates of which one file is replaced; its hash is corrected."""

    def read(bench: Bench, content: bytes) -> None:
        path = bench.directory / "changed"
        shutil.copytree(bench.directory / "candidates", path)
        (path / name).write_bytes(content)
        key = {TEXTS_FILE: "texts_sha256", VECTORS_FILE: "vectors_sha256"}.get(name)
        if key is not None:
            manifest = json.loads((path / CANDIDATES_FILE).read_text())
            manifest[key] = hashlib.sha256(content).hexdigest()
            (path / CANDIDATES_FILE).write_text(json.dumps(manifest))
        candidates = CandidateSet.load(path, bench.opened, mmap=choice(content, 2) == 0)
        for match in candidates.rank("How do I reset my PIN?"):
            if not 0 <= match.score <= 1:
                raise WrongResultError(f"score {match.score}")

    return read


def candidate_file(name: str) -> Callable[[Bench], list[bytes]]:
    return lambda bench: [(bench.directory / "candidates" / name).read_bytes()]


# Settings.


def read_language_pack(bench: Bench, content: bytes) -> None:
    path = bench.directory / "pack.toml"
    path.write_bytes(content)
    load_pack(path)


def read_config(bench: Bench, content: bytes) -> None:
    path = bench.directory / "train.toml"
    path.write_bytes(content)
    load_config(path)


CSV = Reader(
    read_table(".csv"),
    lambda _: [valid.PAIRS, valid.PAIRS.replace(b",", b";")],
    mutate_bytes,
    words.TABLE,
    generated.csv_files(),
)
JSONL = Reader(
    read_table(".jsonl"),
    lambda _: [valid.OBJECTS],
    mutate_json_lines,
    words.JSON,
    generated.json_lines(generated.JSON_VALUES),
)
READERS = {
    "manifest": Reader(
        read_whole_manifest,
        lambda bench: [(bench.matcher / MANIFEST_FILE).read_bytes()],
        mutate_json,
        words.MANIFEST,
        generated.JSON_FILES,
    ),
    "tokenizer": Reader(read_tokenizer_file, valid.tokenizers, mutate_json, words.TOKENIZER, generated.JSON_FILES),
    "model": Reader(read_model, valid.models, mutate_protobuf, words.MODEL, generated.MESSAGES),
    "reference-vectors": Reader(
        read_vectors_file,
        lambda bench: [(bench.matcher / SELF_TEST_FILE).read_bytes()],
        mutate_json,
        words.MANIFEST,
        generated.JSON_FILES,
    ),
    "csv": CSV,
    "jsonl": JSONL,
    "parquet": Reader(read_parquet, valid.parquet_files, mutate_bytes, words.PARQUET, generated.parquet_files()),
    "csv-gz": Reader(
        read_table(".csv.gz"),
        lambda _: [gzip.compress(valid.PAIRS, mtime=0)],
        mutate_gzip(mutate_bytes),
        words.TABLE,
        generated.csv_files().map(lambda content: gzip.compress(content, mtime=0)),
    ),
    "jsonl-gz": Reader(
        read_table(".jsonl.gz"),
        lambda _: [gzip.compress(valid.OBJECTS, mtime=0)],
        mutate_gzip(mutate_json_lines),
        words.JSON,
    ),
    "resume": Reader(read_resume_file, valid.resume_files, mutate_bytes, words.RESUME),
    "candidates-manifest": Reader(
        read_candidates(CANDIDATES_FILE),
        candidate_file(CANDIDATES_FILE),
        mutate_json,
        words.MANIFEST,
        generated.JSON_FILES,
    ),
    "candidates-texts": Reader(
        read_candidates(TEXTS_FILE),
        candidate_file(TEXTS_FILE),
        mutate_bytes,
        words.JSON,
        generated.json_lines(generated.JSON_VALUES),
    ),
    "candidates-vectors": Reader(
        read_candidates(VECTORS_FILE), candidate_file(VECTORS_FILE), mutate_bytes, words.ARRAY, st.binary(max_size=300)
    ),
    "language-pack": Reader(read_language_pack, valid.packs, mutate_bytes, words.TOML),
    "train-config": Reader(read_config, valid.configs, mutate_bytes, words.TOML),
}
