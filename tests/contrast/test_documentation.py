"""The pack of docs/contrast.md works."""

import re
from pathlib import Path

from flipkd_sdk.contrast import contrast_pairs, load_pack

PAGE = Path(__file__).parents[2] / "docs" / "contrast.md"


def test_the_pack_of_the_page_loads_and_makes_pairs(tmp_path):
    path = tmp_path / "german.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1], encoding="utf-8")
    pack = load_pack(path)
    texts = ["ich will die Karte sperren", "am 3.5.2024 in zwei Wochen"]
    assert {"negation", "antonym", "date", "number_format"} <= set(
        contrast_pairs(texts, pack, per_kind=5, seed=0).counts
    )


def test_every_kind_is_in_the_table_of_the_page():
    page = PAGE.read_text("utf-8")
    table = page[page.index("| kind | label") : page.index("The kind `noun` needs")]
    for language in ("en", "zh"):
        for kind, label in load_pack(language).labels.items():
            line = next(line for line in table.splitlines() if re.search(rf"\b{kind}\b", line.split("|")[1]))
            assert line.split("|")[2].strip() == str(label)
