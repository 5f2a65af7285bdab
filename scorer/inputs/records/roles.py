"""The names that data sets have for who speaks."""

from __future__ import annotations

from collections.abc import Sequence

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
