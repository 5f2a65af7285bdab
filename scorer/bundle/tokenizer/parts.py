"""What a tokenizer does to a text, as records: the types that encoders on the usual hubs have, each with sane values.

Whatever is not named here is refused: of a part that is not known nobody can say what it does to a text.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

Affix = Annotated[str, Meta(max_length=16)]
_OneCharacter = Annotated[str, Meta(min_length=1, max_length=1)]

LONGEST_MAPPING = 18
"""Characters that one character may become: Unicode's compatibility forms have one of 18 (U+FDFA)."""

# One character or class, repeated: it never matches nothing, and in no text does it search twice.
_PLAIN_REGEX = re.compile(
    r"(?:[^\\.^$|?*+()\[\]{}]|\\[sSdDwWnrt]|\[(?:[^\\\[\]&]|\\[sSdDwWnrt])+\])"  # the character or class
    r"(?:\+|\{[1-9],?\})?"  # how often
)
_SPLITS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    *(
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        for digits in (r"\p{N}{1,3}", r"\p{N}")  # Llama 3, Qwen 2
    ),
}


class Part(Struct, tag_field="type", forbid_unknown_fields=True):
    """Something with a ``type``."""


class _Pattern(Struct, forbid_unknown_fields=True):
    String: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    Regex: str | None = None

    def __post_init__(self) -> None:
        if (self.String is None) == (self.Regex is None):
            raise ValueError("a pattern is either a String or a Regex")
        if self.Regex is not None and self.Regex not in _SPLITS and not _PLAIN_REGEX.fullmatch(self.Regex):
            raise ValueError(f"the pattern {self.Regex[:60]!a} is none of the known ones, nor one class of characters")


class _Replace(Part, tag="Replace"):
    pattern: _Pattern
    content: str

    def __post_init__(self) -> None:
        least = len(self.pattern.String) if self.pattern.String is not None else 1
        if len(self.content) > least:
            raise ValueError(f"Replace makes {least} characters {len(self.content)}, expected no longer text")


class _BertNormalizer(Part, tag="BertNormalizer"):
    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True


class _Precompiled(Part, tag="Precompiled"):
    precompiled_charsmap: str

    def __post_init__(self) -> None:
        longest = longest_mapping(self.precompiled_charsmap)
        if longest > LONGEST_MAPPING:
            raise ValueError(f"a charsmap gives {longest} characters for one, expected at most {LONGEST_MAPPING}")


class _StripText(Part, tag="Strip"):
    strip_left: bool = True
    strip_right: bool = True


class _Prepend(Part, tag="Prepend"):
    prepend: _OneCharacter


class _ByteLevelText(Part, tag="ByteLevel"):
    pass


class _Lowercase(Part, tag="Lowercase"):
    pass


class _StripAccents(Part, tag="StripAccents"):
    pass


class _Nmt(Part, tag="Nmt"):
    pass


class _Nfc(Part, tag="NFC"):
    pass


class _Nfd(Part, tag="NFD"):
    pass


class _Nfkc(Part, tag="NFKC"):
    pass


class _Nfkd(Part, tag="NFKD"):
    pass


Normalizer = (
    _BertNormalizer | _Lowercase | _StripAccents | _Nmt | _Nfc | _Nfd | _Nfkc | _Nfkd | _StripText | _Prepend
    | _Replace | _Precompiled | _ByteLevelText
)  # fmt: skip


class ByteLevel(Part, tag="ByteLevel"):
    """Each byte a character: of texts before they are cut, of offsets behind, and back."""

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True


class _Metaspace(Part, tag="Metaspace"):
    replacement: _OneCharacter
    prepend_scheme: Literal["always", "never", "first"] = "always"
    split: bool = True
    add_prefix_space: bool | None = None
    str_rep: _OneCharacter | None = None


class _Split(Part, tag="Split"):
    pattern: _Pattern
    behavior: str
    invert: bool = False


class _CharDelimiterSplit(Part, tag="CharDelimiterSplit"):
    delimiter: _OneCharacter


class _Digits(Part, tag="Digits"):
    individual_digits: bool = False


class _Punctuation(Part, tag="Punctuation"):
    behavior: str = "Isolated"


class _BertPreTokenizer(Part, tag="BertPreTokenizer"):
    pass


class _Whitespace(Part, tag="Whitespace"):
    pass


class _WhitespaceSplit(Part, tag="WhitespaceSplit"):
    pass


class _UnicodeScripts(Part, tag="UnicodeScripts"):
    pass


PreTokenizer = (
    _BertPreTokenizer | ByteLevel | _CharDelimiterSplit | _Digits | _Metaspace | _Punctuation | _Split
    | _UnicodeScripts | _Whitespace | _WhitespaceSplit
)  # fmt: skip


class _BPEDecoder(Part, tag="BPEDecoder"):
    suffix: Affix


class _WordPieceDecoder(Part, tag="WordPiece"):
    prefix: Affix
    cleanup: bool = True


class _StripDecoder(Part, tag="Strip"):
    content: str
    start: int
    stop: int


class _ByteFallback(Part, tag="ByteFallback"):
    pass


class _Fuse(Part, tag="Fuse"):
    pass


Decoder = _BPEDecoder | ByteLevel | _ByteFallback | _Fuse | _Metaspace | _Replace | _StripDecoder | _WordPieceDecoder


def longest_mapping(charsmap: str) -> int:
    """Return the most characters that a SentencePiece charsmap gives for anything; ValueError if it is none.

    It is a trie's size in bytes, the trie, and the texts that its leaves point into, each with a zero at its end.
    """
    try:
        data = base64.b64decode(charsmap, validate=True)
    except ValueError as error:
        raise ValueError(f"a charsmap is no base64 ({error})") from None
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 + size or size % 4:
        raise ValueError("a charsmap is cut short")
    return max(len(part.decode(errors="replace")) for part in data[4 + size :].split(b"\0"))
