"""Language packs: what a file may contain, and the message when it is malformed."""

import dataclasses

import pytest

from flipkd_sdk.contrast import contrast_pairs, languages, load_pack
from flipkd_sdk.errors import ConfigError

GERMAN = """
language = "de"
[lists]
modal = ["will", "kann"]
[inflections]
columns = ["base", "third"]
rows = [["gehen", "geht"]]
[[exchange]]
kind = "antonym"
label = 0
sets = [["öffnen", "schließen"], ["sperren", "entsperren"]]
[[rewrite]]
kind = "negation"
label = 0
pattern = '(?P<m>{modal}) (?P<what>meine|die)'
replace = '{m} nicht {what}'
unless = 'nicht'
[[rewrite]]
kind = "verb"
label = 1
pattern = '(?P<v>{third})'
replace = '{v:base}'
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="my.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def only(text, pack, kind):
    pairs = contrast_pairs([text], pack, per_kind=1, seed=0, kinds=[kind]).pairs
    return {text for pair in pairs for text in (pair.text_a, pair.text_b)} - {text}


def test_the_packs_of_flipkd_load_and_make_the_kinds_of_the_documentation():
    assert languages() == ("en", "zh")
    both = {"amount", "number_word", "date", "negation", "direction", "antonym", "month", "weekday", "noun", "unit"}
    matches = {"politeness", "case", "punctuation", "typo", "number_format", "unit_format", "wording"}
    named = {"person", "place", "firm", "medicine", "body_part", "disease", "relative", "state", "role"}
    own = {"en": (named, {"contraction", "negation_form"}), "zh": (set(), {"homophone"})}
    for language, (changes, forms) in own.items():
        labels = load_pack(language).labels
        assert {kind for kind, label in labels.items() if label == 0} == both | changes
        assert {kind for kind, label in labels.items() if label == 1} == matches | forms


def test_one_file_adds_a_language(write):
    pack = load_pack(write(GERMAN))
    assert pack.language == "de"
    assert only("Konto öffnen", pack, "antonym") == {"Konto schließen"}
    assert only("Ich will meine Karte", pack, "negation") == {"Ich will nicht meine Karte"}
    assert only("Ich will nicht meine Karte", pack, "negation") == set()
    assert only("er geht", pack, "verb") == {"er gehen"}
    assert only("500 Euro", pack, "amount")
    assert "noun" in pack.labels
    assert only("ich geht", pack, "noun") == set()


def test_a_file_extends_a_pack_of_ours(write):
    text = 'language = "en"\nextends = "en"\nkinds_off = ["amount"]\nprotected = ["open banking"]\n'
    pack = load_pack(write(text + '[[exchange]]\nkind = "brand"\nlabel = 0\nsets = [["Visa", "Maestro"]]\n'))
    assert only("My Visa", pack, "brand") == {"My Maestro"}
    assert only("open an account", pack, "antonym") == {"close an account"}
    assert only("what is open banking", pack, "antonym") == set()
    assert "amount" not in pack.labels
    with pytest.raises(ConfigError, match="'amount'"):
        contrast_pairs(["500"], pack, per_kind=1, seed=0, kinds=["amount"])


def test_the_words_of_a_list_are_exchanged_and_one_of_several_templates_is_drawn(write):
    text = (
        GERMAN
        + """
[[rewrite]]
kind = "greeting"
label = 1
pattern = '^'
replace = ["Hallo. ", "Guten Tag. "]
[[exchange]]
kind = "city"
label = 0
lists = ["city"]
"""
    )
    pack = load_pack(write(text.replace("[lists]", '[lists]\ncity = ["Rom", "Wien", "Bonn"]')))
    assert only("ich bin in Rom", pack, "city") <= {"ich bin in Wien", "ich bin in Bonn"}
    made = contrast_pairs([f"Karte {i}" for i in range(20)], pack, per_kind=20, seed=0, kinds=["greeting"]).pairs
    starts = {max(pair.text_a, pair.text_b, key=len).split(".")[0] for pair in made}
    assert starts == {"Hallo", "Guten Tag"}


def test_details_give_texts_something_to_change(write):
    text = """
language = "de"
negators = ["Nicht"]
[numbers]
values = {Zwei = 2}
[lists]
city = ["Rom", "Wien"]
[details]
endings = [" in {city}", "Ich bin aus {city}."]
alone = ["{city} Mitte"]
[[exchange]]
kind = "city"
label = 0
lists = ["city"]
"""
    pack = load_pack(write(text))
    texts = [f"Wo ist Laden {i}?" for i in range(40)]
    assert not contrast_pairs(texts, pack, per_kind=99, seed=0, kinds=["city"]).pairs
    made = contrast_pairs(texts, pack, per_kind=99, seed=0, kinds=["city"], details=True).pairs
    found = {pair.text_a for pair in made}
    assert any(text.endswith((" in Rom?", " in Wien?")) for text in found)
    assert any("? Ich bin aus" in text for text in found)
    assert {"Rom Mitte", "Wien Mitte"} & found
    assert pack.negators == ("nicht",)
    assert dict(pack.numbers.values) == {"zwei": 2}


def test_packs_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_pack("en").language = "fr"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "language: missing"),
        ("language = 3", "language: expected a string"),
        ('language = ""', "language: expected a string that is not empty"),
        ('language = "x"\nlangage = "y"', "langage: unknown key; expected one of dates, "),
        ('language = "x"\nwords = "glued"', "words: expected 'spaced' or 'unspaced', found 'glued'"),
        ('language = "x"\nextends = "klingon"', "extends: 'klingon' is no pack of ours; name one of en, zh"),
        ('language = "x"\nextends = ["en"]', "extends: "),
        ('language = "x"\nextends = "en"\nnumbers = 3', "numbers: expected a table"),
        ('language = "x"\nprotected = "a"', "protected: expected a list of strings"),
        ('language = "x"\nprotected = ["("]', "protected: malformed regular expression: "),
        ('language = "x"\nlists = 3', "lists: expected a table"),
        ('language = "x"\n[lists]\na = "b"', "lists.a: expected a list of strings"),
        ('language = "x"\n[fragments]\na = "["', "fragments.a: malformed regular expression"),
        ('language = "x"\n[fragments]\na = "{b}"', r"fragments.a: \{b\} names no list"),
        ('language = "x"\n[inflections]\ncolumns = ["a", "b"]\nrows = [["x"]]', r"rows\[1\]: expected 2 strings"),
        ('language = "x"\n[inflections]\nrows = 3', "inflections.rows: expected a list"),
        ('language = "x"\n[inflections]\nrow = 3', "inflections.row: unknown key"),
        ('language = "x"\n[numbers]\ndecimal = 5', "numbers.decimal: expected a string"),
        ('language = "x"\n[numbers]\ncomma = 5', "numbers.comma: unknown key"),
        ('language = "x"\n[dates]\npatterns = ["("]', "dates.patterns: malformed"),
        ('language = "x"\n[nouns]\nsynonyms = [["a"]]', r"nouns.synonyms\[1\]: expected at least two strings"),
        ('language = "x"\n[nouns]\nwords = []', "nouns.words: unknown key"),
        ('language = "x"\nnouns = 1', "nouns: expected a table"),
        ('language = "x"\nexchange = 1', "exchange: expected tables"),
        ('language = "x"\n[[exchange]]\nkind = "a"\nlabel = 0', r"exchange\[1\].sets: missing"),
        (
            'language = "x"\n[[exchange]]\nkind = "a"\nlabel = 2\nsets = [["a", "b"]]',
            r"exchange\[1\].label: expected 0",
        ),
        ('language = "x"\n[[exchange]]\nkind = "a"\nlabel = true\nsets = [["a", "b"]]', "label: expected 0 or 1"),
        ('language = "x"\n[[exchange]]\nlabel = 1\nsets = [["a", "b"]]', r"exchange\[1\].kind: missing"),
        (
            'language = "x"\n[[exchange]]\nkind = "a"\nlabel = 0\nsets = [["a", "A"]]',
            r"sets\[1\]: expected at least two",
        ),
        (
            'language = "x"\n[[exchange]]\nkind = "a"\nlabel = 0\nsets = [["a", "b"]]\npattern = "c"',
            r"expected \{term\}",
        ),
        (
            'language = "x"\n[[exchange]]\nkind = "a"\nlabel = 0\nsets = [["a", "b"]]\ncase_sensitive = 1',
            "true or false",
        ),
        ('language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0', r"rewrite\[1\].pattern: missing"),
        ('language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "("\nreplace = ""', "malformed regular"),
        (
            'language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "a"',
            r"rewrite\[1\].replace: expected a string",
        ),
        (
            'language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "a"\nreplace = "{b}"',
            "is no group of the pattern",
        ),
        (
            'language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "(?P<b>a)"\nreplace = "{b:past}"',
            "expected a column of the inflections, or lower",
        ),
        (
            'language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "a"\nreplace = "b"\nscope = "page"',
            "scope: expected 'sentence' or 'text'",
        ),
        (
            'language = "x"\n[[rewrite]]\nkind = "case"\nlabel = 0\npattern = "a"\nreplace = "b"',
            "label: kind 'case' has label 0 in one rule and 1 in another",
        ),
        ('language = "x"\nkinds_off = ["amounts"]', "kinds_off: no rule makes 'amounts'"),
        ('language = "x', "malformed TOML: "),
        ('language = "x"\nnegators = "not"', "negators: expected a list of strings"),
        ('language = "x"\n[numbers]\nvalues = ["one"]', "numbers.values: expected a table"),
        ('language = "x"\n[numbers]\nvalues = {two = "2"}', "numbers.values.two: expected a positive number"),
        ('language = "x"\n[numbers]\nvalues = {none = 0}', "numbers.values.none: expected a positive number"),
        ('language = "x"\n[numbers]\nvalues = {much = inf}', "numbers.values.much: expected a positive number"),
        ('language = "x"\n[details]\nendings = [" in {city}"]', r"details.endings: \{city\} names no list"),
        ('language = "x"\n[details]\nalone = "a"', "details.alone: expected a list of strings"),
        ('language = "x"\n[details]\nbefore = []', "details.before: unknown key"),
        (
            'language = "x"\n[lists]\ncity = ["Rome"]\n[[exchange]]\nkind = "a"\nlabel = 0\nlists = ["city"]',
            r"exchange\[1\].lists: 'city' is no list of at least two words",
        ),
        (
            'language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "a"\nreplace = []',
            r"rewrite\[1\].replace: expected a string or a list",
        ),
        (
            'language = "x"\n[[rewrite]]\nkind = "a"\nlabel = 0\npattern = "a"\nreplace = ["b", "{c}"]',
            "is no group of the pattern",
        ),
    ],
)
def test_a_malformed_pack_is_refused_in_one_line_that_names_file_and_key(write, text, key):
    path = write(text)
    with pytest.raises(ConfigError, match=key) as caught:
        load_pack(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_pack_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"fr: no such language pack .*name one of en, zh or a TOML file"):
        load_pack("fr")
    with pytest.raises(ConfigError, match="no such language pack"):
        load_pack(tmp_path)
    (tmp_path / "latin1.toml").write_bytes(b'language = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_pack(tmp_path / "latin1.toml")
