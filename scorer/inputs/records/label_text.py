"""The judge's scores as text: the published form "- Rationality: 8 - Sensibility: 5", in records and in replies."""

from __future__ import annotations

import re

from scorer.dialogue import HEADS

# The number may be in bold or come after "(0-10)"; a range, another scale than ten, or a fraction is no number.
# Quantifiers are possessive, so that no text can make the search slow.
_SCORE = r"""
    \b{head}\b (?:\s score)?+ [*_`"'\s]*+ (?:\([^()\n]{{0,40}}+\))?+ [*_`"'\s]*+ (?: [:=] | -(?=\s) ) [*_`"'\s]*+
    ( -?+\d++ (?:\.\d++)?+ ) (?: \s*+/\s*+10 (?!\d) )?+ (?! \s*+ (?: % | (?:/|-|–|—|to|or) \s*+ \d) )
"""
_SCORES = {head: re.compile(_SCORE.format(head=head), re.IGNORECASE | re.VERBOSE) for head in HEADS}
_MENTIONS = {head: re.compile(rf"\b{head}\b[^:=\n]{{0,48}}[:=]\W*\d", re.IGNORECASE) for head in HEADS}


def scores_in_text(text: str, *, cut: bool = False) -> list[set[str]]:
    """Return for each head, in the order of ``HEADS``, the different numbers that a text gives it, as text.

    Nothing is guessed: ValueError where a head has a range, another scale or a fraction. ``cut`` says that the text
    was cut off: a number at its very end may then lack a digit and does not count.
    """
    values = []
    for head in HEADS:
        found = list(_SCORES[head].finditer(text))
        if len(_MENTIONS[head].findall(text)) > len(found):
            raise ValueError(f"{head} has a range, another scale or a fraction, expected one number")
        values.append({match[1] for match in found if not (cut and match.end() == len(text))})
    return values
