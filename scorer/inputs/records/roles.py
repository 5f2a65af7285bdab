"""The names that data sets have for who speaks: known ones, and those that a user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from scorer.inputs.records.columns import written
from scorer.inputs.records.faults import RecordError

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
TEXT_KEYS = ("content", "value", "text", "message", "utterance", "parts", "blocks")
_NAMES_OF_ROLES = {
    "user": "user human prompter speaker seeker helpee patient client customer counselee visitor "
    "用户 来访者 求助者 患者 usuario usuário utilisateur nutzer utente paciente klient cliente "
    "ユーザー 사용자",
    "assistant": "assistant gpt chatgpt bot model listener ai supporter counselor counsellor therapist chatbot helper "
    "psychologist psychiatrist doctor agent coach claude gpt-4 gpt-3.5 "
    "助手 咨询师 心理咨询师 支持者 医生 asistente assistente terapeuta assistent therapeut "
    "アシスタント 어시스턴트",
    "system": "system developer",
    "tool": "tool function observation ipython tool_response tool_result function_response",
    "call": "function_call tool_call",  # the assistant's, and no text
}
ROLES = {name: role for role, names in _NAMES_OF_ROLES.items() for name in names.split()}
"""Whose a name is: user, assistant, system, tool, or call."""

SPEAKERS = {name: role for name, role in ROLES.items() if role in ("user", "assistant")}
NAMES = (*SPEAKERS, "system")
"""Names before the turns of a transcript."""


def answering_systems(roles: Sequence[str]) -> list[str]:
    """Return roles in which a system that answers a user is the assistant, where nobody else is (MultiWOZ, SGD)."""
    if "assistant" in roles or "user" not in roles or "system" not in roles[roles.index("user") :]:
        return [*roles]
    first = roles.index("user")
    return [*roles[:first], *("assistant" if role == "system" else role for role in roles[first:])]


SPEAKER_FIELDS = {"user_name": "user", "assistant_name": "assistant"}
"""Fields that hold no column: the names of the speakers who have a role, several with commas between them."""

WHOSE = "name the speakers: --map user_name=NAME, --map assistant_name=NAME"
"""What a user can do about a name that is not known."""

_NAME_KEYS = ("role", "name", "username", "nickname", "id")
_DEEPEST = 8
"""Lists and objects in each other in which messages are looked for; deeper ones no layout has."""


def roles_of_names(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the role of each name that fields give, in lower case; a name with a comma may be one or several."""
    given = [(role, fields[field]) for field, role in SPEAKER_FIELDS.items() if field in fields]
    return {_lowered(name): role for role, names in given for name in (*names.split(","), names) if name.strip()}


def with_roles(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a record in which the speakers of ``roles_of_names`` have their roles, however it holds its turns."""
    before = re.compile(rf"^[ \t]*({'|'.join(map(re.escape, names))})[ \t]*(?=[::])", re.IGNORECASE | re.MULTILINE)

    def renamed(match: re.Match[str]) -> str:
        return names.get(match[1].lower(), match[1]).capitalize()  # a letter may match and have another lower case

    found: dict[str, Any] = _renamed_in(record, names, _DEEPEST)
    for key, value in found.items():
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
            try:
                listed = written(value, key)
            except RecordError:
                continue
            renamed_list = _renamed_in(listed, names, _DEEPEST)
            found[key] = value if renamed_list == listed else renamed_list
        elif isinstance(value, str) and len(before.findall(value)) > 1:  # a transcript
            found[key] = before.sub(renamed, value)
    return found


def _renamed_in(value: Any, names: Mapping[str, str], deep: int) -> Any:
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str) and _lowered(value[0]) in names:
            return [names[_lowered(value[0])], value[1]]
        return [_renamed_in(item, names, deep - 1) for item in value] if deep else value
    if not isinstance(value, Mapping) or not deep:
        return value
    found = {key: _renamed_in(item, names, deep - 1) for key, item in value.items()}
    for key in ROLE_KEYS:
        if isinstance(found.get(key), list):  # a record of lists
            found[key] = [names.get(_lowered(name), name) for name in found[key]]
    role = next((names[name] for key in ROLE_KEYS for name in _names(value.get(key)) if name in names), None)
    return found | {"role": role} if role and any(key in value for key in TEXT_KEYS) else found


def _names(value: Any) -> list[str]:
    """Return what a message says of its speaker: a name, a number, or an object that has them."""
    return [_lowered(value.get(key)) for key in _NAME_KEYS] if isinstance(value, Mapping) else [_lowered(value)]


def _lowered(name: Any) -> str:
    return str(name).strip().lower() if isinstance(name, (str, int)) and not isinstance(name, bool) else ""
