from __future__ import annotations

import pytest
from tiny import TEXTS, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from flipkd_sdk.errors import ModelSourceError
from flipkd_sdk.exporters.encoders.prompts import build_prompt_in
from flipkd_sdk.runtimes.encoding.tokenizer_file import read_tokenizer

UNKNOWN = "[UNK]"
SAMPLE = [*TEXTS[:6], "reset", "two  spaces"]


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator([*TEXTS, "query:"], trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token=special[3], show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, "query:"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)]),
        ]
    )
    return tokenizer


def byte_level_alone() -> Tokenizer:
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


KINDS = {
    "WordPiece": word_piece,
    "Unigram": unigram,
    "byte-level": byte_level,
    "byte-level alone": byte_level_alone,
    "no post-processor": tiny_tokenizer,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "prompt", ["query: ", "task: similarity of questions | query: ", "Instruct: find it\nQuery: ", "q "]
)
def test_a_prompt_in_the_tokenizer_file_is_the_prompt_in_front_of_the_text(
    kind: str, prompt: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    backend = KINDS[kind]()
    expected = [backend.encode(prompt + text).ids for text in SAMPLE]
    tokenizer = build_prompt_in(PreTrainedTokenizerFast(tokenizer_object=backend), prompt, SAMPLE)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    read = read_tokenizer(file)
    assert [read.encode(text).ids for text in SAMPLE] == expected


def test_a_prompt_whose_last_word_goes_on_in_the_text_is_refused() -> None:
    with pytest.raises(ModelSourceError, match="--prompt ''"):
        build_prompt_in(PreTrainedTokenizerFast(tokenizer_object=word_piece()), "q", SAMPLE)


def test_no_prompt_leaves_the_tokenizer_as_it_is() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer())
    assert build_prompt_in(tokenizer, "", SAMPLE) is tokenizer
