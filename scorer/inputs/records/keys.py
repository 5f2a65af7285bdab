"""The names under which records keep their turns, questions and answers."""

from __future__ import annotations

SURE_LISTS = ("messages", "conversations")
LISTS = (*SURE_LISTS, "conversation", "dialogue", "dialog", "chat", "turns", "contents")
"""Keys of a list of messages; but for the first two, they may also hold something else."""

LESSER_LISTS = ("utterances", "transcript", "chat_messages", "msgs")
"""Keys of a list of messages where they hold one; elsewhere they mean nothing."""

HISTORIES = (
    *("history", "chat_history", "conversation_history", "dialogue_history", "dialog_history", "message_history"),
    *("previous_turns", "past_turns"),
)
"""Keys of the turns before the question, or before the answer where there is no question."""

ANSWERS = (
    *("response", "completion", "output", "generation", "generated_text", "model_output", "model_response", "reply"),
    *("prediction", "choices", "responses", "completions", "outputs", "generations"),
)
"""Keys of an answer, also of a list of one; of several that differ, none is chosen."""

LESSER_ANSWERS = (
    *("answer", "answerText", "answertext", "response_post", "candidates", "response_body"),
    *("target", "targets", "reference"),
    *("assistant", "gpt", "bot", "ai"),
)
"""Keys that hold the answer only where none of ``ANSWERS`` does."""

PAIR = ("chosen", "rejected")
"""Keys of the two answers of a preference pair."""

QUESTIONS = ("instruction", "prompt", "question", "query", "problem")
LESSER_QUESTIONS = (
    *("input", "inputs", "user", "human", "utterance", "post", "questionText", "questiontext", "seeker_post"),
)
"""Keys that hold the question only where none of ``QUESTIONS`` does."""

LAST_QUESTIONS = ("message", "user_message", "user_input")
"""Keys that hold the question only where nothing else does, nor a context."""

SYSTEM = ("system", "system_prompt", "systemInstruction", "system_instruction", "system_message", "systemPrompt")

KEYS = frozenset(
    (
        *(*LISTS, *LESSER_LISTS, *HISTORIES, *ANSWERS, *LESSER_ANSWERS, *PAIR, *QUESTIONS, *LESSER_QUESTIONS),
        *(*LAST_QUESTIONS, *SYSTEM, "context"),
    )
)
"""Every key that may hold turns."""

CONVERSATIONS = (
    *("conversation_id", "conv_id", "dialogue_id", "dialog_id", "session_id", "chat_id", "thread_id"),
    *("message_tree_id", "conversationId", "dialogueId", "sessionId", "chatId", "threadId"),
)
"""Keys by which a message says which conversation it is of."""
