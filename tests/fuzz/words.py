"""Strings that mean something in a format, for mutation to insert."""

_ELSEWHERE = [b"../weights.bin", b"weights.bin", b"/dev/zero", b"../../canary/secret", b".."]
_DEEP = [b"[" * 9999, b'{"a":' * 9999, b"(" * 300]
_NUMBERS = [b"1e999", b"NaN", b"-1", b"9" * 5000]

TABLE = b'" , ; \0 \xff \xef\xbb\xbf \xff\xfe PK\x03\x04 \x1f\x8b \xe2\x80\xa8 \x1a text_a \xed\xa0\x80'.split(b" ")
TABLE += [b"\r", b"\n", b"sep=;\r\n", b"a" * 70_000, b'"\n' * 999, b"," * 5000]
JSON = [b"\\ud800", b"\\u0000", b"-", b"text_a", b"null", *_NUMBERS, *_DEEP]
MODEL = b"location offset Loop If Scan ai.onnx.ml com.microsoft input_ids read_out sentence_embedding".split()
MODEL += _ELSEWHERE
TOKENIZER = b"NFKD ByteLevel Replace Regex (a+)+$ Sequence Precompiled BPE Unigram TemplateProcessing".split()
TOKENIZER += b"Metaspace WordLevel WordPiece Whitespace Strip Prepend".split()
MANIFEST = [b"manifest.json", b"a/b", b"int8", *_ELSEWHERE, *_NUMBERS]
TOML = b"""= \"\"\" ' [[ ]] inf nan \0 \xff (a+)+ (?P<x> {term} {x} [a {9999999} 1979-99-99""".split()
TOML += [b"[" * 3000, b"{" * 3000, b"a=" + b"[" * 3000, b"a." * 3000, b"extends = 'xx'\n", *_NUMBERS, *_DEEP]
PARQUET = b"PAR1 \xff\xff\xff\x7f \0\0\0\0 \x80\x80\x80\x80\x08 \x15 \x19\xfc ARROW:schema".split(b" ")
ARRAY = b"<f4 |O True { 'descr' \x93NUMPY \x02 \0\0\xc0\x7f \0\0\x80\x7f".split(b" ")
ARRAY += [b"(99999999999, 4)", *_NUMBERS, *_DEEP]
RESUME = [b'{"flipkd resume file": "1"}\n', *JSON]
