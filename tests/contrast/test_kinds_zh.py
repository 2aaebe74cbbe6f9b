"""Each kind of the Chinese pack."""

import pytest

from flipkd_sdk.contrast import contrast_pairs, load_pack

PACK = load_pack("zh")


def changed(text, kind):
    found = set()
    for seed in range(60):
        for pair in contrast_pairs([text], PACK, per_kind=5, seed=seed, kinds=[kind]).pairs:
            assert pair.label == PACK.labels[kind]
            found.add(pair.text_b if pair.text_a == text else pair.text_a)
    return found


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("我想开通会员", "negation", "我不想开通会员"),
        ("我不想开通会员", "negation", "我想开通会员"),
        ("为什么不能付款", "negation", "为什么能付款"),
        ("为什么可以付款", "negation", "为什么不可以付款"),
        ("我收到了退款", "negation", "我没有收到退款"),
        ("请取消订单", "negation", "请不要取消订单"),
        ("转账500元", "amount", "转账5000元"),
        ("借了三个月", "number_word", "借了六个月"),
        ("逾期3天", "unit", "逾期3个月"),
        ("这个月还款", "date", "下个月还款"),
        ("5月8日还款", "date", "7月8日还款"),
        ("周一到账", "weekday", "周五到账"),
        ("三月份的账单", "month", "五月份的账单"),
        ("怎么开通会员", "antonym", "怎么关闭会员"),
        ("把余额转到银行卡", "direction", "把银行卡转到余额"),
        ("怎么付款", "wording", "如何付款"),
        ("能付款吗", "wording", "能不能付款吗"[:-1]),
        ("怎么付款", "politeness", "请问怎么付款"),
        ("查看账单", "homophone", "查看帐单"),
        ("500元", "unit_format", "500块"),
        ("逾期3天", "number_format", "逾期三天"),
        ("怎么付款？", "punctuation", "怎么付款"),
    ],
)
def test_kind_makes(text, kind, expected):
    assert expected in changed(text, kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("我能不能付款", "negation"),
        ("我可以付款吗", "negation"),
        ("怎么会这样", "wording"),
        ("怎么没有到账", "wording"),
        ("同一天还款", "number_format"),
        ("星期一到账", "number_word"),
        ("最低还款", "month"),
        ("开通不开通", "direction"),
    ],
)
def test_kind_leaves_alone(text, kind):
    assert changed(text, kind) == set()


def test_nouns_are_found_without_spaces():
    frames = ["我的{}丢了", "怎么挂失{}啊", "补办{}要多久", "在哪领{}呢", "他拿{}走了", "丢{}怎么办"]
    texts = [frame.format(noun) for frame in frames for noun in ("护照", "驾照本", "门票")]
    pairs = contrast_pairs(texts, PACK, per_kind=20, seed=0, kinds=["noun"]).pairs
    assert any({"我的护照丢了", "我的门票丢了"} == {pair.text_a, pair.text_b} for pair in pairs)
