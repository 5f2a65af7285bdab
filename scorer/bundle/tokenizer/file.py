"""What a tokenizer makes of a text's pieces, as records: its vocabulary, the ids around texts, the whole file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from scorer.bundle.tokenizer.parts import Affix, ByteLevel, Decoder, Normalizer, Part, PreTokenizer

_Id = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Length = Annotated[int, Meta(ge=1, le=1 << 20)]
_SegmentType = Annotated[int, Meta(ge=0, le=1)]


class _BertProcessing(Part, tag="BertProcessing"):
    sep: tuple[str, _Id]
    cls: tuple[str, _Id]


class _RobertaProcessing(Part, tag="RobertaProcessing"):
    sep: tuple[str, _Id]
    cls: tuple[str, _Id]
    trim_offsets: bool = True
    add_prefix_space: bool = True


class _Piece(Struct, forbid_unknown_fields=True):
    id: str
    type_id: _SegmentType


class _PieceOf(Struct, forbid_unknown_fields=True):
    Sequence: _Piece | None = None
    SpecialToken: _Piece | None = None


class _Special(Struct, forbid_unknown_fields=True):
    id: str
    ids: Annotated[Sequence[_Id], Meta(min_length=1, max_length=8)]
    tokens: Sequence[str]


_Pieces = Annotated[Sequence[_PieceOf], Meta(max_length=16)]


class _TemplateProcessing(Part, tag="TemplateProcessing"):
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


_PostProcessor = _BertProcessing | _RobertaProcessing | _TemplateProcessing | ByteLevel


class _Vocabulary(Part):
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
    continuing_subword_prefix: Affix
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
    continuing_subword_prefix: Affix | None = None
    end_of_word_suffix: Affix | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False

    def __post_init__(self) -> None:
        self.check_unknown(self.unk_token)


class _Unigram(Part, tag="Unigram"):
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


class AddedToken(Struct, forbid_unknown_fields=True):
    """A token beside the model's vocabulary."""

    id: _Id
    content: Annotated[str, Meta(min_length=1, max_length=1000)]
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


class _Truncation(Struct, forbid_unknown_fields=True):
    max_length: _Length
    strategy: str = "LongestFirst"
    stride: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    direction: str = "Right"


class _Fixed(Struct, forbid_unknown_fields=True):
    Fixed: _Length


class _Padding(Struct, forbid_unknown_fields=True):
    strategy: Literal["BatchLongest"] | _Fixed
    pad_id: _Id
    pad_type_id: _SegmentType
    pad_token: str
    direction: str = "Right"
    pad_to_multiple_of: Annotated[int, Meta(ge=1, le=4096)] | None = None


class TokenizerFile(Struct, forbid_unknown_fields=True):
    """A tokenizer.json whose sequences of parts were taken apart: see `check_tokenizer`."""

    version: str
    model: Model
    added_tokens: Sequence[AddedToken] = ()
    truncation: _Truncation | None = None
    padding: _Padding | None = None
    normalizer: Sequence[Normalizer] = ()
    pre_tokenizer: Sequence[PreTokenizer] = ()
    post_processor: Sequence[_PostProcessor] = ()
    decoder: Sequence[Decoder] = ()

    def highest(self) -> tuple[str, int]:
        """Return what stands for the highest id that a text can become, and that id."""
        found = [self.model.highest(), *((token.content, token.id) for token in self.added_tokens)]
        for part in self.post_processor:
            if isinstance(part, _BertProcessing | _RobertaProcessing):
                found += (part.sep, part.cls)
            elif isinstance(part, _TemplateProcessing):
                found += ((name, max(token.ids)) for name, token in part.special_tokens.items())
        return max(found, key=lambda entry: entry[1])
