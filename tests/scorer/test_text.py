"""One spelling for one sentence: normalise, digest, fingerprint."""

from __future__ import annotations

import random

import pytest

from scorer.text import digest, fingerprint, normalise

# Each line: spellings of one sentence.
SAME = (
    ("was n't", "wasn't", "WASN’T", "wasn`t", "wasn´t", "was not"),
    ("ca n't", "can't", "Can’t", "cannot", "can not"),
    ("wo n't", "won't", "will not"),
    ("sha n't", "shan't", "shall not"),
    ("would n't 've", "wouldn't've", "would not have"),
    ("i 'll", "I'll", "i will"),
    ("i 'm", "I'm", "i am"),
    ("they 're", "They’re", "they are"),
    ("we 've", "we've", "we have"),
    ("i 'd", "I'd", "i would"),
    ("he 'd", "he'd"),
    ("it 's", "It's", "IT’S", "it is"),
    ("that 's", "that's", "that is"),
    ("what 's", "what's", "what is"),
    ("there 's", "there's", "there is"),
    ("she 's", "she's"),
    ("let 's", "let's"),
    ("gon na", "gonna", "Gonna"),
    ("wan na", "wanna"),
    ("got ta", "gotta"),
    ("well , yes", "well, yes"),
    ("really ?", "really?"),
    ("stop !", "stop!"),
    ("one ; two : three .", "one; two: three."),
    ("hi ... you", "hi... you", "hi… you"),
    ("5 %", "5%"),
    ("$ 5", "$5"),
    ("( not ) [ me ]", "(not) [me]"),
    ("a b", "a  b", "a\tb", "a\n b", " a b ", "a\u00a0b", "a\x00b"),
    ("ab", "a\u200bb", "\ufeffab", "a\u00adb"),
    ("é", "e\u0301", "É", "e\u200b\u0301"),
    ("“hi”", '"hi"', "„hi“"),
    ("ﬁne", "fine"),
    ("i did not know , it was n't me .", "I didn't know, it wasn't me."),
    ("i ca n't believe it 's gon na rain , do n't you ?", "I can’t believe it’s gonna rain, don’t you?"),
)


@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: spellings[0])
def test_spellings_of_one_sentence_become_one_text_of_one_fingerprint(spellings: tuple[str, ...]) -> None:
    assert len({normalise(text) for text in spellings}) == 1
    assert len({fingerprint([text]) for text in spellings}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My DOG 's bed isn't Anna's .", "my dog's bed is not anna's."),
        ("it 's Tom 's", "it is tom's"),
        ("the 90's", "the 90's"),
        ("don'tcha", "don'tcha"),
        ("rock 'n' roll", "rock 'n' roll"),
        ("canteen gotten wand", "canteen gotten wand"),
    ],
)
def test_possessives_and_what_only_looks_like_a_contraction_are_kept(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_text_is_empty_if_nothing_in_it_is_visible() -> None:
    invisible = ("", " ", "\t\r\n", "\u200b", "\ufeff", "\u00ad\u2060", "\x00\x1f\x7f", "\u00a0\u3000")
    assert [normalise(text) for text in invisible] == [""] * 8
    assert [normalise(text) for text in "a.'😭\u4f600"] == [*"a.'😭\u4f600"]


FRAGMENTS = (
    *"was n't ca can't cannot can not it that i you gon na wan ta got 's 'll 'd 're 've 'm 't n' ' , . ( ) [ ]".split(),
    *'’ ` ´ ʼ \uff40 \uff07 “ " ! ? ... … ‥ \u200b \ufeff \u00ad \u0301 \u030c \u0307 \u0345 İ ß ﬁ ﬆ ½ ſ Ⅷ J'.split(),
    *"\u212a ¨ Σ ς ㎏ ℡ 😀 \ud55c ŉ $ %".split(),
    *(" ", " ", "\n", "\x00", "\x1f", "\x85", "\u00a0", "\u2028"),
)


def is_settled(text: str) -> bool:
    """Whether normalising a text twice changes no more than once."""
    once = normalise(text)
    return normalise(once) == once


def test_normalising_twice_changes_nothing() -> None:
    assert all(map(is_settled, ("J\u030c", "e\u200b\u0301", "k\u2028\u0301", "Ⅷ\ufeff\u0301", "gon'tn't")))
    rng = random.Random(0)
    for _ in range(5000):
        text = "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))
        assert is_settled(text), ascii(text)


def test_every_character_is_normalised_once_and_for_all() -> None:
    for code in (*range(0xD800), *range(0xE000, 0x11000), *range(0x1D400, 0x1D800), *range(0x1F100, 0x1F260)):
        assert is_settled("a" + chr(code)), hex(code)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("ab", "c"), ("a", "bc")),
        (("ab",), ("a", "b")),
        (("a", ""), ("a",)),
        (("", "a"), ("a", "")),
        ((), ("",)),
        (("a\x00b",), ("a", "b")),
        (("a" + "\x01" + "\x00" * 7 + "b",), ("a", "b")),
    ],
)
def test_digest_separators_cannot_be_faked(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    assert digest(first) != digest(second)


def test_digest_is_24_hex_digits_and_the_same_on_every_machine() -> None:
    # Computed by: printf '\x02\0\0\0\0\0\0\0hi' | sha256sum | cut -c-24
    assert digest(["hi"]) == "ea3157669b71381037d848d0"


def test_digest_refuses_half_a_surrogate_pair() -> None:
    with pytest.raises(UnicodeEncodeError):
        digest(["\ud800"])


def test_fingerprint_ignores_spacing_and_punctuation_but_not_words_or_turns() -> None:
    assert fingerprint(["Well , yes !!"]) == fingerprint(['"well" - yes'])
    assert fingerprint(["well yes"]) != fingerprint(["well no"])
    assert fingerprint(["well yes"]) != fingerprint(["well", "yes"])
