"""Turns in one text: transcripts with a name before each turn, and what chat templates make of a dialogue."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scorer.dialogue import Turn
from scorer.inputs.records.roles import NAMES, ROLES, answering_systems

_NAME = "|".join(sorted(map(re.escape, NAMES), key=len, reverse=True))
_LONGEST_NAME = 24
_ANSWERS = re.compile(r"\A(?:AI |Chat)?(?:Assistant|AI|Bot|Therapist|Counsell?or|Supporter): ?", re.IGNORECASE)
_LINE = re.compile(rf"(?:\A|\n)[ \t]*(?:\*\*)?({_NAME})(?:\*\*)?[ \t]?[:\uff1a](?:\*\*)?[ \t]*", re.IGNORECASE)
_BEGINS = re.compile(rf"\s*(?:\*\*)?(?:{_NAME})(?:\*\*)?[ \t]?[:\uff1a]", re.IGNORECASE)
_HH = re.compile(r"\n\s*\n(Human|User|Assistant):[ ]?")
_ASKS = re.compile(r"(?:\A|\n)\s*(?:assistant|ai|bot):?\s*\Z", re.IGNORECASE)

# What opens a turn in a chat template, its name in a group; the roles of names that only templates have.
_TEMPLATES = (
    re.compile(r"<\|im_start\|>\s*(\w+)[ \t]*\n?"),  # ChatML, Qwen
    re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>"),  # Llama 3
    re.compile(r"<\|(system|user|assistant)\|>"),  # Zephyr, Phi
    re.compile(r"<start_of_turn>\s*(user|model)\b"),  # Gemma
    re.compile(r"(\[/?INST\])"),  # Llama 2, Mistral
    re.compile(r"\s*###[ ]?(Human|Assistant|User|System|Instruction|Input|Response):"),  # Guanaco, Alpaca
    re.compile(r"(?:\A|\s|</s>)(USER|ASSISTANT):"),  # Vicuna, on one line
)
_TEMPLATE_ROLES = {
    **{name: ROLES[name] for name in ("system", "user", "assistant", "model", "human", "tool")},
    "[inst]": "user",
    "[/inst]": "assistant",
    "instruction": "user",
    "input": "user",
    "response": "assistant",
}
_MARKS = ("<|", "<start_of_turn>", "[INST]", "###", "ASSISTANT:")  # one of them is in each template
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_TOKENS = (
    r"<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<\|begin_of_text\|>|<\|endoftext\|>|<\|end\|>"
    r"|<end_of_turn>|</?s>|<[be]os>"
)
_EDGES = re.compile(rf"\A(?:\s|{_TOKENS})+|(?:\s|{_TOKENS})+\Z")

END = re.compile(rf"(?:\s*(?:{_TOKENS}))+\s*\Z")
"""The tokens by which a model ends its answer."""

SEPARATOR = re.compile(r"</s>|\[SEP\]|__eou__|__eot__|<\|endoftext\|>|<\|?eou\|?>")
"""What stands between the turns of a text without names."""


def transcript(text: str) -> list[Turn]:
    """Return the turns that a text holds with their speakers, without a last "Assistant:" that asks for the answer.

    Nothing where it does not begin with a speaker's name, or names only one; a text before the first name is a system
    prompt in chat templates, and in prompts of "Human:" and "Assistant:" that end in the latter.
    """
    turns: list[Turn] = []
    if "<" in text or "#" in text or "[" in text or ":" in text:  # most texts hold none of these
        turns = [*_of_template(text)] if any(mark in text for mark in _MARKS) else []
    if not turns and (":" in text or "\uff1a" in text):
        turns = [*_of_lines(text)] or [*_of_hh(text)]
    if not turns:
        return turns
    if "user" not in [turn.role for turn in turns]:
        return []
    return turns[:-1] if turns[-1] == Turn("assistant", "") else turns


def without_name(text: str) -> str:
    """Return an answer without the name of who answers before it, as a transcript has it."""
    return _ANSWERS.sub("", text) if ":" in text[:_LONGEST_NAME] else text


def _of_template(text: str) -> Iterator[Turn]:
    for opener in _TEMPLATES:
        before, *said = opener.split(text)
        roles = [_TEMPLATE_ROLES.get(name.lower(), "") for name in said[::2]]
        if not {"user", "assistant"} <= {*roles}:
            continue
        pieces = [_EDGES.sub("", piece) for piece in said[1::2]]
        if preface := _EDGES.sub("", before):
            yield Turn("system", preface)
        for role, piece in zip(roles, pieces, strict=True):
            content = piece
            if prompt := _SYS.match(content):
                yield Turn("system", prompt[1].strip())
                content = content[prompt.end() :].strip()
            if role in ("user", "assistant", "system") and (content or role == "assistant"):
                yield Turn(role, content)
        return


def _of_lines(text: str) -> Iterator[Turn]:
    """Yield the turns of a text in which each begins on a line of its own with its speaker's name."""
    if not _BEGINS.match(text):
        return
    _, *said = _LINE.split("\n" + text.lstrip())
    roles = answering_systems([ROLES[name.lower()] for name in said[::2]])
    alone = len(roles) == 1 and not text.lstrip().lower().startswith(("human:", "user:"))
    if alone or "user" not in roles or (len(roles) > 1 and len({*roles} - {"system"}) == 1):
        return
    for role, piece in zip(roles, said[1::2], strict=True):
        yield Turn(role, piece.strip())


def _of_hh(text: str) -> Iterator[Turn]:
    """Yield the turns of a prompt for Claude 2 that begins with a system prompt."""
    if "\n\nHuman:" not in text or not _ASKS.search(text):
        return
    before, *said = _HH.split(text)
    yield Turn("system", before.strip())
    for name, piece in zip(said[::2], said[1::2], strict=True):
        yield Turn("assistant" if name == "Assistant" else "user", piece.strip())
