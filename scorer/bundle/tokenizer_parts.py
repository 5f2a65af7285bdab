"""The parts of a tokenizer.json as records: the types that encoders on the usual hubs have, each with sane values.

Whatever is not named here is refused: of a part that is not known nobody can say what it does to a text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

_Id = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Length = Annotated[int, Meta(ge=1, le=1 << 20)]
_Affix = Annotated[str, Meta(max_length=16)]
_OneCharacter = Annotated[str, Meta(min_length=1, max_length=1)]
_SegmentType = Annotated[int, Meta(ge=0, le=1)]

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


class _Part(Struct, tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Something with a ``type``."""


class _Pattern(Struct, forbid_unknown_fields=True, frozen=True):
    String: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    Regex: str | None = None

    def __post_init__(self) -> None:
        if (self.String is None) == (self.Regex is None):
            raise ValueError("a pattern is either a String or a Regex")
        if self.Regex is not None and self.Regex not in _SPLITS and not _PLAIN_REGEX.fullmatch(self.Regex):
            raise ValueError(f"the pattern {self.Regex[:60]!a} is none of the known ones, nor one class of characters")


class _Replace(_Part, tag="Replace"):
    pattern: _Pattern
    content: str

    def __post_init__(self) -> None:
        least = len(self.pattern.String) if self.pattern.String is not None else 1
        if len(self.content) > least:
            raise ValueError(f"Replace makes {least} characters {len(self.content)}, expected no longer text")


class _BertNormalizer(_Part, tag="BertNormalizer"):
    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True


class _Precompiled(_Part, tag="Precompiled"):
    precompiled_charsmap: str

    def __post_init__(self) -> None:
        longest = longest_mapping(self.precompiled_charsmap)
        if longest > LONGEST_MAPPING:
            raise ValueError(f"a charsmap gives {longest} characters for one, expected at most {LONGEST_MAPPING}")


class _StripText(_Part, tag="Strip"):
    strip_left: bool = True
    strip_right: bool = True


class _Prepend(_Part, tag="Prepend"):
    prepend: _OneCharacter


class _ByteLevelText(_Part, tag="ByteLevel"):
    pass


class _Lowercase(_Part, tag="Lowercase"):
    pass


class _StripAccents(_Part, tag="StripAccents"):
    pass


class _Nmt(_Part, tag="Nmt"):
    pass


class _Nfc(_Part, tag="NFC"):
    pass


class _Nfd(_Part, tag="NFD"):
    pass


class _Nfkc(_Part, tag="NFKC"):
    pass


class _Nfkd(_Part, tag="NFKD"):
    pass


_Normalizer = (
    _BertNormalizer | _Lowercase | _StripAccents | _Nmt | _Nfc | _Nfd | _Nfkc | _Nfkd | _StripText | _Prepend
    | _Replace | _Precompiled | _ByteLevelText
)  # fmt: skip


class _ByteLevel(_Part, tag="ByteLevel"):
    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True


class _Metaspace(_Part, tag="Metaspace"):
    replacement: _OneCharacter
    prepend_scheme: Literal["always", "never", "first"] = "always"
    split: bool = True
    add_prefix_space: bool | None = None
    str_rep: _OneCharacter | None = None


class _Split(_Part, tag="Split"):
    pattern: _Pattern
    behavior: str
    invert: bool = False


class _CharDelimiterSplit(_Part, tag="CharDelimiterSplit"):
    delimiter: _OneCharacter


class _Digits(_Part, tag="Digits"):
    individual_digits: bool = False


class _Punctuation(_Part, tag="Punctuation"):
    behavior: str = "Isolated"


class _BertPreTokenizer(_Part, tag="BertPreTokenizer"):
    pass


class _Whitespace(_Part, tag="Whitespace"):
    pass


class _WhitespaceSplit(_Part, tag="WhitespaceSplit"):
    pass


class _UnicodeScripts(_Part, tag="UnicodeScripts"):
    pass


_PreTokenizer = (
    _BertPreTokenizer | _ByteLevel | _CharDelimiterSplit | _Digits | _Metaspace | _Punctuation | _Split
    | _UnicodeScripts | _Whitespace | _WhitespaceSplit
)  # fmt: skip


class _BertProcessing(_Part, tag="BertProcessing"):
    sep: tuple[str, _Id]
    cls: tuple[str, _Id]


class _RobertaProcessing(_Part, tag="RobertaProcessing"):
    sep: tuple[str, _Id]
    cls: tuple[str, _Id]
    trim_offsets: bool = True
    add_prefix_space: bool = True


class _Piece(Struct, forbid_unknown_fields=True, frozen=True):
    id: str
    type_id: _SegmentType


class _PieceOf(Struct, forbid_unknown_fields=True, frozen=True):
    Sequence: _Piece | None = None
    SpecialToken: _Piece | None = None


class _Special(Struct, forbid_unknown_fields=True, frozen=True):
    id: str
    ids: Annotated[Sequence[_Id], Meta(min_length=1, max_length=8)]
    tokens: Sequence[str]


_Pieces = Annotated[Sequence[_PieceOf], Meta(max_length=16)]


class _TemplateProcessing(_Part, tag="TemplateProcessing"):
    single: _Pieces
    pair: _Pieces
    special_tokens: Annotated[Mapping[str, _Special], Meta(max_length=32)]

    def __post_init__(self) -> None:
        for name, pieces, texts in (("single", self.single, ["A"]), ("pair", self.pair, ["A", "B"])):
            found = [piece.Sequence.id for piece in pieces if piece.Sequence]
            if found != texts:
                raise ValueError(f"the template of a {name} holds the texts {found}, expected {texts}")
        named = {piece.SpecialToken.id for piece in (*self.single, *self.pair) if piece.SpecialToken}
        unknown = sorted(named - set(self.special_tokens))
        if unknown:
            raise ValueError(f"the template names {unknown[0]!a}, which is none of its special tokens")


_PostProcessor = _BertProcessing | _RobertaProcessing | _TemplateProcessing | _ByteLevel


class _BPEDecoder(_Part, tag="BPEDecoder"):
    suffix: _Affix


class _WordPieceDecoder(_Part, tag="WordPiece"):
    prefix: _Affix
    cleanup: bool = True


class _StripDecoder(_Part, tag="Strip"):
    content: str
    start: int
    stop: int


class _ByteFallback(_Part, tag="ByteFallback"):
    pass


class _Fuse(_Part, tag="Fuse"):
    pass


_Decoder = _BPEDecoder | _ByteLevel | _ByteFallback | _Fuse | _Metaspace | _Replace | _StripDecoder | _WordPieceDecoder


class _Vocabulary(_Part):
    """A model that has ids by token."""

    vocab: Annotated[Mapping[str, _Id], Meta(min_length=1)]

    def highest(self) -> tuple[str, int]:
        """Return the token with the highest id, and that."""
        token = max(self.vocab, key=self.vocab.__getitem__)
        return token, self.vocab[token]

    def check_unknown(self, token: str | None) -> None:
        """Raise ValueError if the token for what is not known is not known itself."""
        if token is not None and token not in self.vocab:
            raise ValueError(f"the token for unknown words, {token[:60]!a}, is not in the vocabulary")


class _WordPiece(_Vocabulary, tag="WordPiece"):
    unk_token: str
    continuing_subword_prefix: _Affix
    max_input_chars_per_word: Annotated[int, Meta(ge=1, le=1000)]

    def __post_init__(self) -> None:
        self.check_unknown(self.unk_token)


class _WordLevel(_Vocabulary, tag="WordLevel"):
    unk_token: str

    def __post_init__(self) -> None:
        self.check_unknown(self.unk_token)


class _Bpe(_Vocabulary, tag="BPE"):
    merges: Sequence[Any]
    dropout: None = None  # it would draw the ids at random
    unk_token: str | None = None
    continuing_subword_prefix: _Affix | None = None
    end_of_word_suffix: _Affix | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False

    def __post_init__(self) -> None:
        self.check_unknown(self.unk_token)


class _Unigram(_Part, tag="Unigram"):
    vocab: Annotated[Sequence[tuple[str, float]], Meta(min_length=1)]
    unk_id: _Id | None = None
    byte_fallback: bool = False

    def __post_init__(self) -> None:
        if self.unk_id is not None and self.unk_id >= len(self.vocab):
            raise ValueError(f"unk_id is {self.unk_id}, expected one of {len(self.vocab)} tokens")

    def highest(self) -> tuple[str, int]:
        """Return the token with the highest id, and that."""
        return self.vocab[-1][0], len(self.vocab) - 1


Model = _WordPiece | _WordLevel | _Bpe | _Unigram


class AddedToken(Struct, forbid_unknown_fields=True, frozen=True):
    """A token beside the model's vocabulary."""

    id: _Id
    content: Annotated[str, Meta(min_length=1, max_length=1000)]
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


class _Truncation(Struct, forbid_unknown_fields=True, frozen=True):
    max_length: _Length
    strategy: str = "LongestFirst"
    stride: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    direction: str = "Right"


class _Fixed(Struct, forbid_unknown_fields=True, frozen=True):
    Fixed: _Length


class _Padding(Struct, forbid_unknown_fields=True, frozen=True):
    strategy: Literal["BatchLongest"] | _Fixed
    pad_id: _Id
    pad_type_id: _SegmentType
    pad_token: str
    direction: str = "Right"
    pad_to_multiple_of: Annotated[int, Meta(ge=1, le=4096)] | None = None


class TokenizerFile(Struct, forbid_unknown_fields=True, frozen=True):
    """A tokenizer.json whose sequences of parts were taken apart: see `check_tokenizer`."""

    version: str
    model: Model
    added_tokens: Sequence[AddedToken] = ()
    truncation: _Truncation | None = None
    padding: _Padding | None = None
    normalizer: Sequence[_Normalizer] = ()
    pre_tokenizer: Sequence[_PreTokenizer] = ()
    post_processor: Sequence[_PostProcessor] = ()
    decoder: Sequence[_Decoder] = ()

    def highest(self) -> tuple[str, int]:
        """Return what stands for the highest id that a text can become, and that id."""
        found = [self.model.highest(), *((token.content, token.id) for token in self.added_tokens)]
        for part in self.post_processor:
            if isinstance(part, _BertProcessing | _RobertaProcessing):
                found += (part.sep, part.cls)
            elif isinstance(part, _TemplateProcessing):
                found += ((name, max(token.ids)) for name, token in part.special_tokens.items())
        return max(found, key=lambda entry: entry[1])


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
