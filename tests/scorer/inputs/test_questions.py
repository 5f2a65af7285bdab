# ruff: noqa: E501 - a table reads best with one case per line
"""What was asked, and what was said before it: questions, contexts, histories and transcripts."""

from __future__ import annotations

import pytest

from tests.scorer.inputs.input_data import FIT, GOOD, OPEN, A, Meant, U, check_meant

MEANT: dict[str, Meant] = {
    "instruction, context, response": ({"instruction": "Hi.", "context": "Built in 1852.", "response": "NEW"}, "NEW"),
    "a question that may be either": ({"prompt": "Hi.", "question": "Who?", "response": "NEW"}, FIT),
    "a question beside turns in context": ({"question": "Hi.", "context": "a</s>b", "response": "NEW"}, FIT),
    "a user's name is no question": ({"context": "Hi.", "response": "NEW", "user": "u12"}, "NEW"),
    "context, a list of messages": ({"context": [U], "response": "NEW"}, "NEW"),
    "a transcript as prompt": ({"prompt": "Human: Hi.\n\nAssistant: OLD\n\nHuman: And?\n\nAssistant:", "response": "NEW"}, "NEW"),
    "messages as input": ({"input": OPEN, "output": [GOOD]}, "NEW"),
    "human and ai": ({"human": "Hi there.", "ai": "NEW"}, "NEW"),
    "inputs and targets": ({"inputs": "Hi there.", "targets": "NEW"}, "NEW"),
    "OpenOrca": ({"id": "1", "system_prompt": "S", "question": "Hi.", "response": "NEW"}, "NEW"),
    "Dolly": ({"instruction": "Hi.", "context": "", "response": "NEW", "category": "qa"}, "NEW"),
    "LangChain's history": ({"chat_history": [["Hi.", "OLD"]], "question": "And you?", "answer": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history that ends in the question": ({"conversation_history": OPEN, "query": "And you?", "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history of texts": ({"previous_turns": ["Hi.", "OLD"], "prompt": "And you?", "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history without a question": ({"history": OPEN, "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history that is a transcript": ({"dialogue_history": "User: Hi.\nBot: OLD", "user": "And you?", "reply": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history of questions and answers": ({"history": [{"question": "Hi.", "answer": "OLD"}], "query": "And you?", "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "two histories that differ": ({"history": [["Hi.", "OLD"]], "chat_history": [["x", "y"]], "query": "Hi.", "response": "NEW"}, FIT),
    "messages as context of a question": ({"context": [U, A], "query": "And you?", "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "messages as context": ({"context": OPEN, "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "texts beside a question, turns or passages": ({"context": ["x", "y"], "question": "Hi.", "answer": "NEW"}, FIT),
    "a transcript as context of a question": ({"context": "User: Hi.\nAssistant: OLD\nUser: Oh.\nAssistant: Yes.", "prompt": "And you?", "response": "NEW"}, ("Hi.", "OLD", "Oh.", "Yes.", "And you?", "NEW")),
    "a form as context": ({"context": "Client: ACME\nAgent: Jane\nWrite an invoice.", "response": "NEW"}, ("Client: ACME\nAgent: Jane\nWrite an invoice.", "NEW")),
    "a form that a question is about": ({"instruction": "Pay.", "context": "Client: ACME\nAgent: Jane", "response": "NEW"}, ("Pay.\nClient: ACME\nAgent: Jane", "NEW")),
    "a user's name in a context": ({"context": "User: admin\nPassword: x", "response": "NEW"}, ("User: admin\nPassword: x", "NEW")),
    "a form as text": ({"text": "Client: ACME\nAgent: Jane", "label": 1}, "no_messages"),
    "a transcript with angle brackets": ({"text": "<HUMAN>: Hi.\n<ASSISTANT>: NEW"}, ("Hi.", "NEW")),
    "a config in a transcript": ({"prompt": "Human: Fix:\nuser: root\nmodel: a\n\nAssistant:", "response": "NEW"}, ("Fix:\nuser: root\nmodel: a", "NEW")),
    "a transcript as context": ({"context": "User: Hi.\nAssistant: OLD\nUser: And you?", "response": "Assistant: NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "other marks between turns": ({"context": "Hi. __eou__ OLD __eou__ And you? __eou__", "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a mark at the end of the context": ({"context": "Hi. </s> OLD </s> And you? </s>", "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "a transcript beside an instruction": ({"conversation": "Client: Hi.\nTherapist: OLD\nClient: And you?", "instruction": "Answer.", "response": "NEW"}, FIT),
    "a text for a conversation": ({"conversation": "Hi.\nOLD\nAnd you?", "instruction": "Answer.", "response": "NEW"}, FIT),
    "a name for a conversation": ({"conversation": "c-1", "instruction": "Hi.", "response": "NEW"}, ("Hi.", "NEW")),
    "a transcript alone": ({"dialogue": "Patient: Hi.\nDoctor: NEW"}, ("Hi.", "NEW")),
    "a transcript as text": ({"text": "### Human: Hi.### Assistant: NEW"}, ("Hi.", "NEW")),
    "a template as prompt": ({"prompt": "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n", "response": "NEW<|im_end|>"}, ("Hi.", "NEW")),
    "messages as question and answer": ({"prompt": U, "response": GOOD}, ("Hi.", "NEW")),
    "objects as question and answer": ({"question": {"text": "Hi.", "lang": "en"}, "answer": {"text": "NEW", "lang": "en"}}, ("Hi.", "NEW")),
    "messages as JSON": ({"prompt": '[{"role": "user", "content": "Hi."}]', "response": '[{"role": "assistant", "content": "NEW"}]'}, ("Hi.", "NEW")),
    "Cohere's log": ({"chat_history": [{"role": "USER", "message": "Hi."}, {"role": "CHATBOT", "message": "OLD"}], "message": "And you?", "response": {"text": "NEW"}}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history whose question has an unknown name": ({"history": [["Hi.", "OLD"]], "frage": "And you?", "response": "NEW"}, FIT),
    "a history as text": ({"history": "[['Hi.', 'OLD']]", "question": "And you?", "answer": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "an empty history as text": ({"history": "[]", "question": "Hi.", "answer": "NEW"}, ("Hi.", "NEW")),
    "an answer with the name of who answers": ({"prompt": "\n\nHuman: Hi.\n\nAssistant:", "response": "Assistant: NEW"}, ("Hi.", "NEW")),
    "counsel-chat": ({"questionTitle": "T", "questionText": "Hi there.", "answerText": "NEW"}, ("Hi there.", "NEW")),
    "EPITOME": ({"sp_id": "1", "seeker_post": "Hi there.", "response_post": "NEW", "level": 2}, ("Hi there.", "NEW")),
    "a status beside input and output": ({"input": "Hi.", "output": "NEW", "message": "no error"}, ("Hi.", "NEW")),
    "message and reply": ({"user": "Anna", "message": "Hi there.", "reply": "NEW"}, ("Hi there.", "NEW")),
    "a status beside user and assistant": ({"user": "Hello!", "assistant": "NEW", "message": "request completed fine"}, ("Hello!", "NEW")),
    "a note beside context and response": ({"context": "Hi.", "response": "NEW", "message": "made with seed 42"}, ("Hi.", "NEW")),
    "names in a transcript's answer": ({"chosen": "\n\nHuman: Which?\n\nAssistant: This:\nModel: X1\nAgent: Bob"}, "This:\nModel: X1\nAgent: Bob"),
    "a scene as answer": ({"prompt": "Write a scene.", "chosen": "Patient: Hi.\nDoctor: What hurts?\nPatient: All.\nDoctor: NEW"}, ("Write a scene.", "Patient: Hi.\nDoctor: What hurts?\nPatient: All.\nDoctor: NEW")),
    "an answer about an AI": ({"question": "Which film?", "answer": "AI: Artificial Intelligence"}, ("Which film?", "AI: Artificial Intelligence")),
    "a form as prompt": ({"prompt": "Patient: male\nDoctor: Smith\nWrite a letter.", "response": "NEW"}, ("Patient: male\nDoctor: Smith\nWrite a letter.", "NEW")),
    "a question about a template": ({"prompt": "Explain what [INST] and [/INST] do.", "response": "NEW"}, ("Explain what [INST] and [/INST] do.", "NEW")),
    "names and marks": ({"context": "User: Hi. </s> Assistant: OLD </s> User: And you?", "response": "NEW"}, ("User: Hi.", "Assistant: OLD", "User: And you?", "NEW")),
    "a question about a dialogue": ({"question": "What hurts?", "answer": "NEW", "dialogue": "Patient: All.\nDoctor: Rest."}, FIT),
    "a list that the question is about": ({"question": "What hurts?", "answer": "NEW", "transcript": [{"speaker": "Bob", "text": "All."}]}, ("What hurts?", "NEW")),
    "the turns once more as a text": ({"messages": [U, GOOD], "conversation": "User: Hi.\nAssistant:  NEW"}, ("Hi.", "NEW")),
    "no history": ({"chat_history": "None", "question": "Hi.", "answer": "NEW"}, ("Hi.", "NEW")),
    "a history that is a number": ({"previous_turns": 3, "question": "Hi.", "answer": "NEW"}, ("Hi.", "NEW")),
    "a mark that the context speaks of": ({"context": "What does __eou__ mean?", "response": "NEW"}, ("What does __eou__ mean?", "NEW")),
    "a status beside human and gpt": ({"human": "Hello!", "gpt": "NEW", "message": "ok"}, ("Hello!", "NEW")),
    "a status beside inputs and targets": ({"inputs": "Hello", "targets": "NEW", "message": "ok"}, ("Hello", "NEW")),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANT)
def test_what_was_asked_and_said_before_is_what_was_meant(case: str) -> None:
    check_meant(*MEANT[case])
