"""Detection of the language of texts, for those with a pack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SAMPLE = 2_000
_ENGLISH_SHARE = 0.15
_CHINESE_SHARE = 0.5
_WORD = re.compile(r"[^\W\d_]+")
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_OTHER_CJK = re.compile(r"[\u3040-\u30ff\u1100-\u11ff\uac00-\ud7af]")
# Frequent words of English that are rare in other languages of the same script.
_ENGLISH = re.compile(
    r"the|and|my|how|of|what|with|are|that|have|not|you|can|i|this|why|does|when|your|from|if|it|to|which|there|get|"
    r"should|would|could|after|has|been|they"
)


def detect_language(texts: Iterable[str]) -> str | None:
    """Return the language of texts, or None if it is neither English nor Chinese.

    Texts are English if at least 15% of their words are frequent English words, and Chinese if at least half of
    their letters are Chinese characters and next to none are Japanese or Korean ones.

    Example:
        >>> detect_language(["How do I reset my PIN?"]), detect_language(["怎么还款"]), detect_language(["Wo ist sie?"])
        ('en', 'zh', None)
    """
    letters = chinese = other = words = english = 0
    for index, text in enumerate(texts):
        if index == _SAMPLE:
            break
        found = _WORD.findall(text)
        letters += sum(map(len, found))
        chinese += len(_CHINESE.findall(text))
        other += len(_OTHER_CJK.findall(text))
        words += len(found)
        english += sum(_ENGLISH.fullmatch(word.lower()) is not None for word in found)
    if letters and chinese >= _CHINESE_SHARE * letters and other <= 0.02 * letters:
        return "zh"
    if words and english >= _ENGLISH_SHARE * words:
        return "en"
    return None
