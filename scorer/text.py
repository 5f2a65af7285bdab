"""One text, one spelling: what two ways of writing the same sentence have in common.

The judge's published labels sit on lower-case, tokenised text with most contractions written out
("i did not know , it was n't me ."), users have the other kind ("I didn't know, it wasn't me."). Both are
mapped to one form before they are scored, so that a score depends on what was said and not on who stored it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

# Zero-width and directional marks, soft hyphen, byte-order mark: invisible, so they may not change a score.
INVISIBLE = "[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]"
_INVISIBLE = re.compile(INVISIBLE)
CONTROL = "[\x00-\x1f\x7f-\x9f]"
_CONTROL = re.compile(CONTROL)
_HARMLESS = "\u200c\u200d\u00a0\u2009\u202f\u3000"  # what joins letters and emoji, and spaces
QUOTES = {"'": "‘’ʼ`´", '"': "“”„"}
"""Straight quotes, and what is written for them."""

_STRAIGHT = str.maketrans({quote: straight for straight, quotes in QUOTES.items() for quote in quotes})

SPELLINGS: tuple[tuple[str, str, str], ...] = (
    ("n't", r"\b(?:can't|ca n't)", "can not"),
    ("n't", r"\b(?:won't|wo n't)", "will not"),
    ("n't", r"\b(?:shan't|sha n't)", "shall not"),
    ("n't", r"(?<=\w) ?n't(?=n't|\b)", " not"),
    ("'m", r"(?<=\w) ?'m\b", " am"),
    ("'re", r"(?<=\w) ?'re\b", " are"),
    ("'ve", r"(?<=\w) ?'ve\b", " have"),
    ("'ll", r"(?<=\w) ?'ll\b", " will"),
    (" '", r"(?<=\w) '(?=(?:s|d)\b)", "'"),
    ("'s", r"'s\b(?:(?<=\bit's)|(?<=\bthat's)|(?<=\bwhat's)|(?<=\bthere's))", " is"),
    ("'d", r"'d\b(?:(?<=\bi'd)|(?<=\byou'd))", " would"),
    (" na", r" (?:(?<=\bgon )|(?<=\bwan )|(?<=\bgot ))(?=na\b)", ""),
    (" ta", r" (?:(?<=\bgon )|(?<=\bwan )|(?<=\bgot ))(?=ta\b)", ""),
    ("cannot", r"\bcannot\b", "can not"),
)
"""In the order in which they apply: what a text must hold, pattern, replacement.

Looking for the first is much cheaper. The text is lower-case by then, and "n't" may be a word of its own. Python and
the tokenizers library read the patterns alike (`scorer.bundle.tokenizer.spelling`): no groups in the replacement.
"""

SPACE_BEFORE = r" (?=[,.!?;:%)\]])"
SPACE_AFTER = r"(?<=[(\[$]) "
_SPELLINGS = [(hint, re.compile(pattern), replacement) for hint, pattern, replacement in SPELLINGS]
_SPACE_BEFORE, _SPACE_AFTER = re.compile(SPACE_BEFORE), re.compile(SPACE_AFTER)
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_ASCII_NOT_ALPHANUMERIC = {code: None for code in range(128) if not chr(code).isalnum()}


def normalise(text: str) -> str:
    """Return the one spelling that is scored: NFKC, lower case, contractions written out, single spaces.

    Idempotent, and equal for the tokenised and the natural spelling of a sentence ("was n't ready ." and
    "wasn't ready."). Empty if the text holds nothing visible.
    """
    if not text.isascii():
        # Invisible marks go first: they keep a letter from its accent. "´" is a space and an accent to NFKC, so
        # quotes are made straight before it, and after it the few that it brings. Lower case may compose again (J̌).
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text).translate(_STRAIGHT)).translate(_STRAIGHT)
        text = unicodedata.normalize("NFKC", text.lower())
    elif "`" in text:
        text = text.replace("`", "'")
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    text = " ".join(text.split()).lower()
    for hint, pattern, replacement in _SPELLINGS:
        if hint in text:
            text = pattern.sub(replacement, text)
    text = _SPACE_BEFORE.sub("", text)
    return _SPACE_AFTER.sub("", text) if "(" in text or "[" in text or "$" in text else text


def plain(text: str) -> str:
    """Return anybody's text as it may be printed: on one line, its control characters and marks of direction spelt out.

    A terminal obeys some characters, others turn a line around or hide a part. Letters of all scripts, spaces and what
    joins emoji stay. A byte of a file's name that is no UTF-8 is shown as such.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else _spelt(c) for c in text)


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


def digest(parts: Iterable[str]) -> str:
    """Return 24 hex digits (96 bits) of SHA-256 over parts, each closed by a separator that text cannot fake.

    96 bits keep the chance of one collision among a billion dialogues below 1e-11. A lone surrogate in a part
    raises UnicodeEncodeError; readers reject such text before it comes here.
    """
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode()
        pieces += (len(data).to_bytes(8, "little"), data)
    return hashlib.sha256(b"".join(pieces)).hexdigest()[:24]


def fingerprint(texts: Iterable[str]) -> str:
    """Return a digest of the letters and digits alone: the same for every spelling, spacing and punctuation.

    Texts that hold none at all (emoji, "???") count by their normalised text.
    """
    normalised = list(map(normalise, texts))
    bare = list(map(letters, normalised))
    return digest(bare if any(bare) else normalised)


def letters(text: str) -> str:
    """Return the letters and digits of a normalised text."""
    return text.translate(_ASCII_NOT_ALPHANUMERIC) if text.isascii() else _NOT_ALPHANUMERIC.sub("", text)
