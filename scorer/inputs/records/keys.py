"""The names under which records keep their turns, questions and answers."""

from __future__ import annotations

SURE_LISTS = ("messages", "conversations")
LISTS = (*SURE_LISTS, "conversation", "dialogue", "dialog", "chat", "turns", "contents")
"""Keys of a list of messages; but for the first two, they may also hold something else."""

ANSWERS = (
    *("response", "completion", "output", "generation", "generated_text", "model_output", "model_response", "reply"),
    *("prediction", "choices", "responses", "completions", "outputs", "generations"),
)
"""Keys of an answer, also of a list of one; of several that differ, none is chosen."""

LESSER_ANSWERS = ("answer", "target", "targets", "reference", "assistant", "gpt", "bot", "ai")
"""Keys that hold the answer only where none of ``ANSWERS`` does."""

PAIR = ("chosen", "rejected")
"""Keys of the two answers of a preference pair."""

QUESTIONS = ("instruction", "prompt", "question", "query", "problem")
LESSER_QUESTIONS = ("input", "inputs", "user", "human", "utterance", "post")
"""Keys that hold the question only where none of ``QUESTIONS`` does."""

SYSTEM = ("system", "system_prompt", "systemInstruction", "system_instruction")

KEYS = frozenset(
    (*LISTS, *ANSWERS, *LESSER_ANSWERS, *PAIR, *QUESTIONS, *LESSER_QUESTIONS, *SYSTEM, "context", "history")
)
"""Every key that may hold turns."""
