"""Turns in one text: transcripts with a name before each turn, and what chat templates make of a dialogue.

Whoever writes of a dialogue is not in one, so a text counts as turns only where its form leaves little doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scorer.dialogue import Turn
from scorer.inputs.records.roles import NAMES, ROLES, answering_systems

_LONGEST_NAME = 24
_NAME = "|".join(sorted(map(re.escape, NAMES), key=len, reverse=True))
_FIRST = re.compile(rf"\s*(?:\*\*|<)?({_NAME})(?:\*\*|>)?[ \t]?[:\uff1a]", re.IGNORECASE)
_LABEL = r"(?:\A|\n)[ \t]*(?:\*\*|<)?({})(?:\*\*|>)?[ \t]?[:\uff1a](?:\*\*)?[ \t]*"
_PLAIN = ("human", "user")
_SURE = 4  # so many turns of other names are a dialogue
_BEGUN = 3  # and so many where the one who answers begins
_ANY_LABEL = re.compile(_LABEL.format(_NAME), re.IGNORECASE)
_HH = re.compile(r"\n[ \t]*\n(Human|User|Assistant):[ ]?")
_ASKS = ("assistant:", "assistant")
_ANSWERS = re.compile(r"(?:AI |Chat)?(?:Assistant|AI|Bot|Therapist|Counsell?or|Supporter): ?", re.IGNORECASE)

_END_TOKENS = (
    *("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "</s>", "<eos>"),
)
_EOS = "</s>"
_TOKENS = (*_END_TOKENS, "<|begin_of_text|>", "<s>", "<bos>")
# What opens a turn in a chat template, its name in a group.
_OPENERS = (
    re.compile(r"<\|im_start\|>[ ]?(\w{1,20})[ \t]*\n?"),  # ChatML, Qwen
    re.compile(r"<\|start_header_id\|>(\w{1,20})<\|end_header_id\|>"),  # Llama 3
    re.compile(r"<\|(system|user|assistant)\|>"),  # Zephyr, Phi
    re.compile(r"<start_of_turn>(user|model)\b"),  # Gemma
    re.compile(r"###[ ]?(Human|Assistant|User|System|Instruction|Input|Response):"),  # Guanaco, Alpaca
    re.compile(r"(\[/?INST\])"),  # Llama 2, Mistral
    re.compile(r"\b(USER|ASSISTANT):"),  # Vicuna, on one line
)
_AT_A_LINES_BEGINNING = 4  # so many of them stand there, or right behind the token that ends a turn
_ROLES = {
    **{name: ROLES[name] for name in ("system", "user", "assistant", "model", "human", "tool")},
    "[inst]": "user",
    "[/inst]": "assistant",
    "instruction": "user",
    "input": "user",
    "response": "assistant",
}
_MARKS = ("<|", "<start_of_turn>", "[INST]", "###", "ASSISTANT:")  # one of them is in each template
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)

SEPARATOR = re.compile(r"</s>|\[SEP\]|__eou__|__eot__|<\|endoftext\|>|<\|?eou\|?>")
"""What stands between the turns of a text without names."""


def transcript(text: str, *, prompt: bool = False) -> list[Turn]:
    """Return the turns that a text holds with their speakers, without a last "Assistant:" that asks for the answer.

    Nothing where it does not begin with a speaker's name, or names only one; a text before the first name is a system
    prompt in chat templates, and in prompts of "Human:" and "Assistant:" that end in the latter. A ``prompt`` ends in
    what a user said or asks for the answer, else it only speaks of a dialogue.
    """
    turns: list[Turn] = []
    if "<" in text or "#" in text or "[" in text or ":" in text:  # most texts hold none of these
        turns = [*_of_template(text)] if any(mark in text for mark in _MARKS) else []
    if not turns and (":" in text or "\uff1a" in text):
        turns = [*_of_lines(text, prompt=prompt)] or [*_of_hh(text)]
    if "user" not in [turn.role for turn in turns]:
        return []
    if turns[-1] == Turn("assistant", ""):
        return turns[:-1]
    return [] if prompt and turns[-1].role != "user" else turns


def whole_dialogue(text: str) -> list[Turn]:
    """Return the turns of a text that is a dialogue with its answer, and surely one; else nothing."""
    turns = transcript(text)
    if not turns or turns[-1].role != "assistant":
        return []
    first = _FIRST.match(text)
    return turns if first is None or first[1].lower() in _PLAIN or len(turns) >= _SURE else []


def without_name(text: str) -> str:
    """Return the answer to a transcript without the name of who answers before it."""
    found = _ANSWERS.match(text) if ":" in text[:_LONGEST_NAME] else None
    return text[found.end() :] if found and not _ANY_LABEL.search(text, found.end()) else text


def without_end(text: str) -> str:
    """Return an answer without the tokens by which a model ends it."""
    kept = end = _end(text, len(text))
    if not _token_before(text, end):
        return text
    is_opened = "<s>" in text
    while token := _token_before(text, end):
        end -= len(token)
        said = _end(text, end)
        # Behind a space, or where it is opened too, a token is one that the answer speaks of.
        if not said or (token == _EOS and is_opened) or (token != _EOS and text[end - 1] in " \t"):
            break
        kept = end = said
    return text[:kept]


def _end(text: str, end: int, begin: int = 0) -> int:
    """Return where a text ends without the white space before a place."""
    while end > begin and text[end - 1].isspace():
        end -= 1
    return end


def _token_before(text: str, end: int) -> str:
    if not end or text[end - 1] != ">":
        return ""
    return next((token for token in _END_TOKENS if text.endswith(token, 0, end)), "")


def _stripped(piece: str) -> str:
    """Return what was said in a piece of a template, without the tokens around it."""
    begin, end = 0, _end(piece, len(piece))
    while token := _token_before(piece, end):
        end = _end(piece, end - len(token))
    while begin < end:
        if piece[begin].isspace():
            begin += 1
        elif token := next((token for token in _TOKENS if piece.startswith(token, begin)), ""):
            begin += len(token)
        else:
            break
    while end > begin and (token := next((token for token in _TOKENS if piece.endswith(token, begin, end)), "")):
        end = _end(piece, end - len(token), begin)
    return piece[begin:end]


def _of_template(text: str) -> Iterator[Turn]:
    for number, opener in enumerate(_OPENERS):
        before, *said = opener.split(text)
        roles = [_ROLES.get(name.lower(), "") for name in said[::2]]
        preface = _stripped(before)
        closed = number < _AT_A_LINES_BEGINNING and not preface and _token_before(text, _end(text, len(text)))
        if not {"user", "assistant"} <= {*roles} and not ("user" in roles and closed):
            continue
        if preface and not before.rstrip(" \t").endswith((".", "\n") if opener is _OPENERS[-1] else "\n"):
            return
        if number < _AT_A_LINES_BEGINNING and not all(
            not piece.strip() or piece.rstrip(" ").endswith(("\n", *_TOKENS)) for piece in said[1:-1:2]
        ):
            return
        if preface:
            yield Turn("system", preface)
        for role, piece in zip(roles, said[1::2], strict=True):
            content = _stripped(piece)
            if system := _SYS.match(content):
                yield Turn("system", system[1].strip())
                content = content[system.end() :].strip()
            if role in ("user", "assistant", "system") and (content or role == "assistant"):
                yield Turn(role, content)
        return


def _of_lines(text: str, *, prompt: bool) -> Iterator[Turn]:
    """Yield the turns of a text in which each begins on a line of its own with its speaker's name.

    Two names speak, the first of a user and "Assistant" or the first of one; others are part of what is said.
    """
    if (first := _FIRST.match(text)) is None:
        return
    names: dict[str, str] = {}
    text = text.lstrip()
    for found in _ANY_LABEL.finditer(text):
        if found[1].lower() == "assistant":
            names["assistant"] = found[1]
        names.setdefault(ROLES[found[1].lower()], found[1])
    if "assistant" in names and first[1].lower() != "system":
        names.pop("system", None)
    label = re.compile(_LABEL.format("|".join(map(re.escape, names.values()))), re.IGNORECASE)
    _, *said = label.split(text)
    roles = answering_systems([ROLES[name.lower()] for name in said[::2]])
    starts_with = ROLES[first[1].lower()]
    if len(roles) == 1:
        if first[1].lower() not in _PLAIN:
            return
    elif not {"user", "assistant"} <= {*roles} or (starts_with == "assistant" and (prompt or len(roles) < _BEGUN)):
        return
    for role, piece in zip(roles, said[1::2], strict=True):
        yield Turn(role, piece.strip())


def _of_hh(text: str) -> Iterator[Turn]:
    """Yield the turns of a prompt for Claude 2 that begins with a system prompt."""
    if "\n\nHuman:" not in text or text.rstrip().rpartition("\n")[2].strip().lower() not in _ASKS:
        return
    before, *said = _HH.split(text)
    yield Turn("system", before.strip())
    for name, piece in zip(said[::2], said[1::2], strict=True):
        yield Turn("assistant" if name == "Assistant" else "user", piece.strip())
