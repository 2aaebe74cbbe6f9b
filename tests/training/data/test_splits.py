from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_models import tiny_pairs

from flipkd_sdk.errors import ConfigError, InvalidPairsError
from flipkd_sdk.pairs import Pairs, read_pairs, split_pairs, write_pairs
from flipkd_sdk.training.config.schema import DataConfig
from flipkd_sdk.training.data.splits import read_data, write_splits
from flipkd_sdk.training.data.validation import same_text

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.csv" for name in ("pairs", "dev", "test")}
    for seed, path in enumerate(paths.values()):
        write_pairs(tiny_pairs(20, seed), path)
    return paths


def same(one: Pairs, other: Pairs) -> bool:
    return one.a == other.a and one.b == other.b and one.label.tolist() == other.label.tolist()


def test_files_of_the_user_are_taken_as_they_are(files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    data = read_data(DataConfig(**files), seed=0)
    assert same(data.train, tiny_pairs(20, 0))
    assert same(data.dev, tiny_pairs(20, 1))
    assert data.test is not None
    assert same(data.test, tiny_pairs(20, 2))
    assert data.sizes == {"train": 20, "dev": 20, "test": 20}
    assert data.texts == data.train.texts
    assert not caplog.records


def test_the_test_pairs_may_stay_with_the_user(files: dict[str, Path]) -> None:
    data = read_data(DataConfig(pairs=files["pairs"], dev=files["dev"]), seed=0)
    assert data.test is None
    assert data.sizes["test"] == 0


def test_without_a_development_file_the_pairs_are_split(files: dict[str, Path]) -> None:
    data = read_data(DataConfig(pairs=files["pairs"], dev_share=0.2, test_share=0.3), seed=7)
    expected = split_pairs(tiny_pairs(20, 0), dev=0.2, test=0.3, seed=7)
    assert same(data.train, expected.train)
    assert same(data.dev, expected.dev)
    assert data.test is not None
    assert same(data.test, expected.test)


def test_a_test_file_alone_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"data.test needs data.dev"):
        read_data(DataConfig(pairs=files["pairs"], test=files["test"]), seed=0)


def test_columns_are_those_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("q,f,y\nhow,why,1\nwhen,where,0\n", encoding="utf-8")
    data = read_data(DataConfig(pairs=path, dev=path, a_column="q", b_column="2", label_column="y"), seed=0)
    assert (data.train.a, data.train.b) == (("how", "when"), ("why", "where"))


def test_a_text_that_is_trained_on_and_measured_on_is_warned_of(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = tiny_pairs(20, 2)
    leaking = Pairs(("how do I leak", *held_out.a), (tiny_pairs(20, 0).a[3], *held_out.b), tiny_pairs(21, 3).label)
    write_pairs(leaking, files["test"])
    read_data(DataConfig(**files), seed=0)
    (record,) = caplog.records
    assert record.name == "flipkd_sdk"
    assert record.getMessage().startswith(
        "1 texts of the dev or test pairs also occur in the train pairs; measures are inflated"
    )


def test_unlabelled_texts_join_the_train_texts_once_and_held_out_ones_never(
    files: dict[str, Path], tmp_path: Path
) -> None:
    train, dev, test = (tiny_pairs(20, seed) for seed in range(3))
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(["new", train.a[0], dev.a[0], test.b[0], "new", "newer"]), encoding="utf-8")
    data = read_data(DataConfig(**files, texts=path), seed=0)
    assert data.texts == (*train.texts, "new", "newer")


def test_a_validation_text_is_learned_by_no_stage_not_even_in_other_case_and_spaces(
    files: dict[str, Path], tmp_path: Path
) -> None:
    train, dev = tiny_pairs(20, 0), tiny_pairs(20, 1)
    texts = [f"text number {number}" for number in range(100)]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*texts, *(f"  Text  NUMBER {number}" for number in range(100))]), encoding="utf-8")
    leaking = Pairs((*dev.a, train.a[0].upper()), (*dev.b, "never seen"), np.append(dev.label, 1))
    write_pairs(leaking, files["dev"])
    config = DataConfig(**files, texts=path, validation_share=0.2)
    data = read_data(config, seed=3)
    drawn = set(data.validation_texts) - set(leaking.texts)
    assert len(drawn) == 40
    assert set(dev.texts) | {"never seen"} == set(data.validation_texts) - drawn
    assert {same_text(text) for text in data.texts}.isdisjoint(map(same_text, data.validation_texts))
    assert data.held_out.issuperset(data.validation_texts)
    assert read_data(config, seed=3).validation_texts == data.validation_texts
    assert read_data(config, seed=4).validation_texts != data.validation_texts
    assert read_data(config.model_copy(update={"validation_share": 0.0}), seed=3).validation_texts == ()


def test_a_file_of_validation_texts_is_taken_as_it_is_and_may_not_repeat_a_train_text(
    files: dict[str, Path], tmp_path: Path
) -> None:
    train, path, texts = tiny_pairs(20, 0), tmp_path / "own.txt", tmp_path / "texts.txt"
    path.write_text("one\ntwo\none\n", encoding="utf-8")
    texts.write_text("Two\nthree\n", encoding="utf-8")
    data = read_data(DataConfig(**files, validation_texts=path, texts=texts), seed=0)
    assert data.validation_texts == ("one", "two")
    assert data.texts == (*train.texts, "three")
    path.write_text(f"one\n{train.b[2].upper()}\n", encoding="utf-8")
    with pytest.raises(InvalidPairsError, match=r"own.txt: 1 of 2 validation texts also occur in the train pairs"):
        read_data(DataConfig(**files, validation_texts=path), seed=0)


@pytest.mark.parametrize(
    ("words", "warned"), [("wie setze ich mein Passwort zurück", True), ("how do I find my card", False)]
)
def test_texts_of_another_language_than_the_pairs_are_reported(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, words: str, warned: bool
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"{words} {number}" for number in range(120)), encoding="utf-8")
    read_data(DataConfig(**files, texts=path), seed=0)
    assert ("the pairs are in the language 'en' and the unlabelled texts are not" in caplog.text) == warned


def test_splits_are_written_for_the_exporter(files: dict[str, Path], tmp_path: Path) -> None:
    data = read_data(DataConfig(pairs=files["pairs"], dev=files["dev"]), seed=0)
    write_splits(data, tmp_path / "splits")
    assert {path.name for path in (tmp_path / "splits").iterdir()} == {"train.csv", "dev.csv", "texts.csv"}
    assert same(read_pairs(tmp_path / "splits" / "dev.csv"), data.dev)


def test_queries_are_kept_from_what_is_learned_and_those_that_are_not_are_told(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = tiny_pairs(20, 0)
    (tmp_path / "texts.txt").write_text("new\nasked\nasked too\n", encoding="utf-8")
    (tmp_path / "exemplars.csv").write_text("q,kind\nknown,x\nknown too,y\n", encoding="utf-8")
    (tmp_path / "queries.csv").write_text(
        f"q,kind\nasked,x\nasked,x\nasked too,y\n{train.a[0]},y\nnever seen,x\n", encoding="utf-8"
    )
    config = DataConfig(
        **files,
        texts=tmp_path / "texts.txt",
        queries=tmp_path / "queries.csv",
        exemplars=tmp_path / "exemplars.csv",
        text_column="q",
        intent_column="kind",
    )
    data = read_data(config, seed=0)
    assert data.texts == (*train.texts, "new")
    assert data.queries is not None
    assert (len(data.queries.queries), len(data.queries.exemplars), data.learned_queries) == (5, 2, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 4 queries also occur in training; retrieval scores are inflated",
        "2 of 4 queries also occur in the unlabelled texts; they are left out there",
    ]
