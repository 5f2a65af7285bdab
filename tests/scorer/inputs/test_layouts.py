# ruff: noqa: E501, PT017 - a table reads best with one case per line
"""Which answer of a record is judged: the one that is meant, or none."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from scorer.dialogue import Dialogue, conversation_key
from scorer.inputs.parse import parse_record, parse_records
from scorer.inputs.records.faults import RecordError

U, A = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "OLD"}
AGAIN = {"role": "user", "content": "And you?"}
OPEN = [U, A, AGAIN]
FIT = "ambiguous"
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
GOOD = {"role": "assistant", "content": "NEW"}


def said(content: Any, role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


# The record, and the answer or all turns that are meant, or the reason why none is judged.
MEANT: dict[str, tuple[dict[str, Any], str | tuple[str, ...]]] = {
    "generation beside messages": ({"messages": OPEN, "generation": "NEW"}, "NEW"),
    "completion beside messages": ({"messages": OPEN, "completion": "NEW"}, "NEW"),
    "response beside messages": ({"messages": OPEN, "response": "NEW"}, "NEW"),
    "output beside conversations": ({"conversations": OPEN, "output": "NEW"}, "NEW"),
    "answer beside messages": ({"messages": OPEN, "answer": "NEW"}, "NEW"),
    "a message as answer": ({"messages": OPEN, "response": GOOD}, "NEW"),
    "a list of one answer": ({"messages": OPEN, "responses": ["NEW"]}, "NEW"),
    "choices of an API": ({"messages": OPEN, "choices": [{"message": GOOD}]}, "NEW"),
    "a response of an API": ({"messages": OPEN, "response": {"choices": [{"message": GOOD}]}}, "NEW"),
    "an answer of several": ({"messages": OPEN, "responses": ["NEW", "other"]}, FIT),
    "two answers that differ": ({"messages": OPEN, "response": "NEW", "output": "other"}, FIT),
    "two answers that agree": ({"messages": OPEN, "response": "NEW", "output": "NEW"}, "NEW"),
    "an answer and the turns' own": ({"messages": [U, A], "generation": "NEW"}, FIT),
    "the turns' own answer again": ({"messages": [U, GOOD], "response": "NEW"}, "NEW"),
    "an answer under a name of its own": ({"messages": OPEN, "model_answer_text": "NEW"}, FIT),
    "an answer's model is no answer": ({"messages": OPEN, "response_model": "gpt-4"}, "OLD"),
    "a gold answer beside the turns' own": ({"messages": [U, GOOD], "answer": "42"}, "NEW"),
    "a number is no answer": ({"messages": [U, GOOD], "output": 3}, "NEW"),
    "turns that end in a user": ({"messages": OPEN}, "OLD"),
    "two lists that differ": ({"messages": [U, A], "conversations": [U, GOOD]}, FIT),
    "two lists that agree": ({"messages": [U, GOOD], "conversations": [U, GOOD]}, "NEW"),
    "an empty list beside a filled one": ({"messages": [], "conversations": [U, GOOD]}, "NEW"),
    "an empty list beside question and answer": ({"messages": [], "prompt": "Hi.", "response": "NEW"}, "NEW"),
    "conversation, a list": ({"conversation": [U, GOOD]}, "NEW"),
    "dialog": ({"dialog": [U, GOOD]}, "NEW"),
    "dialogue": ({"dialogue": [{"speaker": "user", "text": "Hi."}, {"speaker": "bot", "text": "NEW"}]}, "NEW"),
    "chat": ({"chat": [U, GOOD]}, "NEW"),
    "messages as text": ({"messages": '[{"role": "user", "content": "Hi."}, {"role": "ai", "content": "NEW"}]'}, "NEW"),
    "prompt, response": ({"prompt": "Hi.", "response": "NEW"}, "NEW"),
    "prompt, completion": ({"prompt": "Hi.", "completion": "NEW", "label": True}, "NEW"),
    "prompt and completion as messages": ({"prompt": [U], "completion": [GOOD]}, "NEW"),
    "question, answer": ({"question": "Hi.", "answer": "NEW"}, "NEW"),
    "question, response, answer": ({"question": "Hi.", "answer": "gold", "response": "NEW"}, "NEW"),
    "input, output": ({"input": "Hi.", "output": "NEW"}, "NEW"),
    "instruction, context, response": ({"instruction": "Hi.", "context": "Built in 1852.", "response": "NEW"}, "NEW"),
    "a question that may be either": ({"prompt": "Hi.", "question": "Who?", "response": "NEW"}, FIT),
    "a question beside turns in context": ({"question": "Hi.", "context": "a</s>b", "response": "NEW"}, FIT),
    "a user's name is no question": ({"context": "Hi.", "response": "NEW", "user": "u12"}, "NEW"),
    "context, a list of messages": ({"context": [U], "response": "NEW"}, "NEW"),
    "a tool call and its result": ({"messages": [U, CALL, said("7", "tool"), GOOD]}, "NEW"),
    "a tool call with empty text": ({"messages": [U, said("", tool_calls=[1]), said("7", "tool"), GOOD]}, "NEW"),
    "a tool call without content": ({"messages": [U, {"role": "assistant", "tool_calls": [1]}, GOOD]}, "NEW"),
    "function_call and observation": ({"messages": [U, said("f()", "function_call"), said("7", "observation"), GOOD]}, "NEW"),
    "a tool call at the end": ({"messages": [U, A, AGAIN, CALL]}, "no_response"),
    "a tool call and its result at the end": ({"messages": [U, A, CALL, said("7", "tool")]}, "no_response"),
    "an empty answer at the end": ({"messages": [U, A, AGAIN, said("")]}, "empty_turn"),
    "an empty user turn at the end": ({"messages": [U, GOOD, said("", "user")]}, "NEW"),
    "an empty system prompt": ({"messages": [said("", "system"), U, GOOD]}, "NEW"),
    "an image beside text": ({"messages": [said([{"type": "text", "text": "Hi."}, {"type": "image_url"}], "user"), GOOD]}, "NEW"),
    "parts with value": ({"messages": [said([{"type": "text", "value": "Hi."}], "user"), GOOD]}, "NEW"),
    "an image alone among turns": ({"messages": [U, A, said([{"type": "image"}], "user"), GOOD]}, "NEW"),
    "an image and nothing else": ({"messages": [said([{"type": "image"}], "user"), GOOD]}, "one_speaker"),
    "an image as answer": ({"messages": [U, A, AGAIN, said([{"type": "image"}])]}, "no_response"),
    "a thought before the answer": ({"messages": [U, said("<think>Hm. <b></think>\n\nNEW")]}, "NEW"),
    "the end of a thought": ({"messages": [U, said("Hm.</think>NEW")]}, "NEW"),
    "a thought alone": ({"messages": [U, A, AGAIN, said("<think>Hm.</think>")]}, "no_response"),
    "a thought without an end": ({"messages": [U, A, AGAIN, said("<think>Hm. NEW")]}, "no_response"),
    "a thought as a part": ({"messages": [U, said([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "NEW"}])]}, "NEW"),
    "a thought in an answer": ({"prompt": "Hi.", "response": "<thinking>Hm.</thinking> NEW"}, "NEW"),
    "channels": ({"messages": [U, said("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>NEW")]}, "NEW"),
    "less than is no thought": ({"messages": [U, said("1 < 2 <3 [x]")]}, "1 < 2 <3 [x]"),
    "other roles": ({"messages": [{"from": "human", "value": "Hi."}, {"from": "listener", "value": "NEW"}]}, "NEW"),
    "a chosen answer alone": ({"prompt": "Hi.", "chosen": "NEW"}, "NEW"),
    "an answer of a batch": ({"custom_id": "1", "messages": [U], "response": {"body": {"choices": [{"message": GOOD}]}}}, "NEW"),
    "a request of Anthropic": ({"messages": OPEN, "response": {"role": "assistant", "content": [{"type": "text", "text": "NEW"}]}}, "NEW"),
    "an answer as an object": ({"messages": OPEN, "generation": {"text": "NEW"}}, "NEW"),
    "an answer under a plain name": ({"messages": OPEN, "text": "NEW"}, FIT),
    "the turns again as text": ({"messages": OPEN, "text": "<user>Hi.<bot>OLD<user>And you?"}, "OLD"),
    "a final answer": ({"messages": OPEN, "final": "NEW"}, FIT),
    "contents of Gemini": ({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}, {"role": "model", "parts": [{"text": "NEW"}]}]}, "NEW"),
    "a list as Python writes it": ({"messages": str([U, GOOD])}, "NEW"),
    "a list that is broken": ({"messages": "[{'role': 'user', "}, "wrong_type"),
    "parts of an exported chat": ({"messages": [{"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Hi."]}}, GOOD]}, "NEW"),
    "a refusal": ({"messages": [U, said(None, refusal="NEW")]}, "NEW"),
    "a tool's result in a user turn": ({"messages": [U, said([{"type": "tool_use", "id": "1"}]), said([{"type": "tool_result", "content": "7"}], "user"), GOOD]}, "NEW"),
    "a transcript as prompt": ({"prompt": "Human: Hi.\n\nAssistant: OLD\n\nHuman: And?\n\nAssistant:", "response": "NEW"}, "NEW"),
    "messages as input": ({"input": OPEN, "output": [GOOD]}, "NEW"),
    "human and ai": ({"human": "Hi there.", "ai": "NEW"}, "NEW"),
    "inputs and targets": ({"inputs": "Hi there.", "targets": "NEW"}, "NEW"),
    "two models' answers": ({"prompt": "Hi.", "response_a": "x", "response_b": "y"}, "no_messages"),
    "a list of models' answers": ({"prompt": "Hi.", "responses": [{"response": "x"}, {"response": "y"}]}, FIT),
    "two assistant turns in a row": ({"messages": [U, A, GOOD]}, "NEW"),
    "speakers by name": ({"dialogue": [{"speaker": "Anna", "text": "Hi."}, {"speaker": "Bob", "text": "NEW"}]}, "unknown_role"),
    "texts without speakers": ({"dialog": ["Hi.", "NEW"]}, "wrong_type"),
    "ESConv": ({"emotion_type": "sad", "dialog": [{"speaker": "seeker", "content": "Hi."}, {"speaker": "supporter", "content": "NEW", "annotation": {}}]}, "NEW"),
    "WildChat": ({"conversation_hash": "h", "conversation": [{**U, "turn_identifier": 1}, {**GOOD, "turn_identifier": 1}], "turn": 1}, "NEW"),
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
    "a token at the end": ({"messages": [U, said("NEW</s>")]}, ("Hi.", "NEW")),
    "messages as question and answer": ({"prompt": U, "response": GOOD}, ("Hi.", "NEW")),
    "objects as question and answer": ({"question": {"text": "Hi.", "lang": "en"}, "answer": {"text": "NEW", "lang": "en"}}, ("Hi.", "NEW")),
    "messages and candidates": ({"context": [U, A], "responses": ["x", "y"]}, FIT),
    "messages as JSON": ({"prompt": '[{"role": "user", "content": "Hi."}]', "response": '[{"role": "assistant", "content": "NEW"}]'}, ("Hi.", "NEW")),
    "an API's answer as JSON": ({"prompt": "Hi.", "response": '{"choices": [{"message": {"role": "assistant", "content": "NEW"}}]}'}, ("Hi.", "NEW")),
    "JSON that is the answer": ({"prompt": "Hi.", "response": '{"mood": "sad"}'}, ("Hi.", '{"mood": "sad"}')),
    "Gemini's thoughts": ({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}, {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": "NEW"}]}]}, ("Hi.", "NEW")),
    "Gemini's answer": ({"messages": [U], "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "NEW"}]}}]}}, ("Hi.", "NEW")),
    "OpenAI's responses": ({"input": "Hi.", "output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "NEW"}]}]}, ("Hi.", "NEW")),
    "an object with content": ({"messages": [U], "response": {"content": "NEW"}}, ("Hi.", "NEW")),
    "a pipeline's answer": ({"prompt": "Hi, I lost my dog.", "generated_text": "Hi, I lost my dog. NEW"}, ("Hi, I lost my dog.", "NEW")),
    "a pipeline's list": ({"messages": [U], "output": [{"generated_text": "NEW"}]}, ("Hi.", "NEW")),
    "Ollama's answer": ({"model": "m", "messages": [U], "message": GOOD, "done": True}, ("Hi.", "NEW")),
    "a gold answer": ({"messages": OPEN, "ideal": "NEW"}, FIT),
    "LangChain's messages": ({"messages": [{"type": "human", "content": "Hi."}, {"type": "ai", "data": {"content": "NEW"}}]}, ("Hi.", "NEW")),
    "LangChain's objects": ({"messages": [{"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {"content": "Hi."}}, {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": {"content": "NEW"}}]}, ("Hi.", "NEW")),
    "EmoLLM": ({"conversation": [{"system": "S", "input": "Hi.", "output": "OLD"}, {"input": "And you?", "output": "NEW"}]}, ("S", "Hi.", "OLD", "And you?", "NEW")),
    "a list of prompts and responses": ({"turns": [{"prompt": "Hi.", "response": "OLD"}, {"prompt": "And you?"}], "response": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "pairs of role and text": ({"dialog": [["usr", "Hi."], ["sys", "NEW"]]}, ("Hi.", "NEW")),
    "MultiWOZ": ({"turns": [{"speaker": "USER", "utterance": "Hi."}, {"speaker": "SYSTEM", "utterance": "NEW"}]}, ("Hi.", "NEW")),
    "a system prompt is no answer": ({"messages": [said("S", "system"), U]}, "no_response"),
    "Claude's export": ({"uuid": "1", "chat_messages": [{"sender": "human", "text": "Hi."}, {"sender": "assistant", "text": "NEW"}]}, ("Hi.", "NEW")),
    "Open WebUI's chat": ({"id": "1", "chat": {"title": "t", "messages": [U, GOOD]}}, ("Hi.", "NEW")),
    "utterances": ({"id": "1", "utterances": [{"speaker": "seeker", "text": "Hi."}, {"speaker": "supporter", "text": "NEW"}]}, ("Hi.", "NEW")),
    "Chinese roles": ({"messages": [said("Hi.", "来访者"), said("NEW", "咨询师")]}, ("Hi.", "NEW")),
    "Spanish roles": ({"messages": [said("Hi.", "Usuario"), said("NEW", "Asistente")]}, ("Hi.", "NEW")),
    "blocks": ({"messages": [U, {"role": "assistant", "blocks": [{"block_type": "text", "text": "NEW"}]}]}, ("Hi.", "NEW")),
    "Cohere's log": ({"chat_history": [{"role": "USER", "message": "Hi."}, {"role": "CHATBOT", "message": "OLD"}], "message": "And you?", "response": {"text": "NEW"}}, ("Hi.", "OLD", "And you?", "NEW")),
    "a history whose question has an unknown name": ({"history": [["Hi.", "OLD"]], "frage": "And you?", "response": "NEW"}, FIT),
    "a history as text": ({"history": "[['Hi.', 'OLD']]", "question": "And you?", "answer": "NEW"}, ("Hi.", "OLD", "And you?", "NEW")),
    "an empty history as text": ({"history": "[]", "question": "Hi.", "answer": "NEW"}, ("Hi.", "NEW")),
    "a list as numpy writes it": ({"messages": "[{'role': 'user', 'content': 'Hi.'}\n {'role': 'assistant', 'content': 'NEW'}]"}, ("Hi.", "NEW")),
    "an answer with the name of who answers": ({"prompt": "\n\nHuman: Hi.\n\nAssistant:", "response": "Assistant: NEW"}, ("Hi.", "NEW")),
    "a traced call": ({"inputs": {"question": "Hi."}, "outputs": {"answer": "NEW"}}, ("Hi.", "NEW")),
    "a traced call of messages": ({"input": {"messages": [U]}, "output": {"role": "assistant", "content": "NEW"}}, ("Hi.", "NEW")),
    "a traced call of Bedrock": ({"input": {"messages": [U]}, "output": {"message": {"role": "assistant", "content": [{"text": "NEW"}]}}}, ("Hi.", "NEW")),
    "a traced call whose answer is unknown": ({"input": {"messages": OPEN}, "output": {"frage": "x"}}, "wrong_type"),
    "counsel-chat": ({"questionTitle": "T", "questionText": "Hi there.", "answerText": "NEW"}, ("Hi there.", "NEW")),
    "EPITOME": ({"sp_id": "1", "seeker_post": "Hi there.", "response_post": "NEW", "level": 2}, ("Hi there.", "NEW")),
    "candidates beside the turns' own answer": ({"messages": [U, GOOD], "candidates": ["x", "y"]}, "NEW"),
    "Gemini's log": ({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}], "candidates": [{"content": {"parts": [{"text": "NEW"}]}}]}, ("Hi.", "NEW")),
    "a status beside input and output": ({"input": "Hi.", "output": "NEW", "message": "no error"}, ("Hi.", "NEW")),
    "message and reply": ({"user": "Anna", "message": "Hi there.", "reply": "NEW"}, ("Hi there.", "NEW")),
    "a status beside user and assistant": ({"user": "Hello!", "assistant": "NEW", "message": "request completed fine"}, ("Hello!", "NEW")),
    "a note beside context and response": ({"context": "Hi.", "response": "NEW", "message": "made with seed 42"}, ("Hi.", "NEW")),
    "an answer that begins as the prompt": ({"prompt": "Hello", "generated_text": "Hello! How are you?"}, ("Hello", "Hello! How are you?")),
    "names in a transcript's answer": ({"chosen": "\n\nHuman: Which?\n\nAssistant: This:\nModel: X1\nAgent: Bob"}, "This:\nModel: X1\nAgent: Bob"),
    "a scene as answer": ({"prompt": "Write a scene.", "chosen": "Patient: Hi.\nDoctor: What hurts?\nPatient: All.\nDoctor: NEW"}, ("Write a scene.", "Patient: Hi.\nDoctor: What hurts?\nPatient: All.\nDoctor: NEW")),
    "an answer about an AI": ({"question": "Which film?", "answer": "AI: Artificial Intelligence"}, ("Which film?", "AI: Artificial Intelligence")),
    "a late system message": ({"messages": [U, said("Be brief.", "system"), AGAIN], "completion": "NEW"}, ("Hi.", "Be brief.", "And you?", "NEW")),
    "a form as prompt": ({"prompt": "Patient: male\nDoctor: Smith\nWrite a letter.", "response": "NEW"}, ("Patient: male\nDoctor: Smith\nWrite a letter.", "NEW")),
    "a question about a template": ({"prompt": "Explain what [INST] and [/INST] do.", "response": "NEW"}, ("Explain what [INST] and [/INST] do.", "NEW")),
    "names and marks": ({"context": "User: Hi. </s> Assistant: OLD </s> User: And you?", "response": "NEW"}, ("User: Hi.", "Assistant: OLD", "User: And you?", "NEW")),
    "a question about a dialogue": ({"question": "What hurts?", "answer": "NEW", "dialogue": "Patient: All.\nDoctor: Rest."}, FIT),
    "a list that the question is about": ({"question": "What hurts?", "answer": "NEW", "transcript": [{"speaker": "Bob", "text": "All."}]}, ("What hurts?", "NEW")),
    "a token that the answer speaks of": ({"messages": [U, said("It is <|end_of_text|>")]}, ("Hi.", "It is <|end_of_text|>")),
    "a mark that is opened too": ({"messages": [U, said("Use <s>NEW</s>")]}, ("Hi.", "Use <s>NEW</s>")),
    "two tokens at the end": ({"messages": [U, said("NEW<|im_end|>\n<|endoftext|>")]}, ("Hi.", "NEW")),
    "JSON with an author": ({"prompt": "Quote.", "response": '{"author": "Orwell", "text": "NEW"}'}, ("Quote.", '{"author": "Orwell", "text": "NEW"}')),
    "candidates beside the answer": ({"query": "Hi.", "answer": "NEW", "candidates": ["NEW", "x"]}, ("Hi.", "NEW")),
    "the turns once more as a text": ({"messages": [U, GOOD], "conversation": "User: Hi.\nAssistant:  NEW"}, ("Hi.", "NEW")),
    "no history": ({"chat_history": "None", "question": "Hi.", "answer": "NEW"}, ("Hi.", "NEW")),
    "a history that is a number": ({"previous_turns": 3, "question": "Hi.", "answer": "NEW"}, ("Hi.", "NEW")),
    "a mark that the context speaks of": ({"context": "What does __eou__ mean?", "response": "NEW"}, ("What does __eou__ mean?", "NEW")),
    "a status beside human and gpt": ({"human": "Hello!", "gpt": "NEW", "message": "ok"}, ("Hello!", "NEW")),
    "a status beside inputs and targets": ({"inputs": "Hello", "targets": "NEW", "message": "ok"}, ("Hello", "NEW")),
    "a mood beside turns": ({"messages": OPEN, "gold_emotion": "sad"}, "OLD"),
    "reasoning beside content": ({"messages": [U, said("NEW", reasoning_content="Hm.")]}, "NEW"),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANT)
def test_the_answer_that_is_meant_is_judged_or_none_is(case: str) -> None:
    value, expected = MEANT[case]
    try:
        dialogue = parse_record(value)
        turns = tuple(turn.content for turn in dialogue.turns)
        found: Any = dialogue.response if isinstance(expected, str) else turns
        assert dialogue.turns[-1].role == "assistant"
    except RecordError as error:
        found = error.reason
        assert error.detail.isascii()
    assert found == expected


PAIRS: dict[str, dict[str, Any]] = {
    "prompt and texts": {"prompt": "Hi.", "chosen": "NEW", "rejected": "bad"},
    "prompt and messages": {"prompt": [U], "chosen": [GOOD], "rejected": [said("bad")]},
    "whole dialogues": {"chosen": [U, GOOD], "rejected": [U, said("bad")]},
    "whole dialogues beside the prompt": {"prompt": "Hi.", "messages": [U, GOOD], "chosen": [U, GOOD], "rejected": [U, said("bad")]},
    "transcripts": {"chosen": "\n\nHuman: Hi.\n\nAssistant: NEW", "rejected": "\n\nHuman: Hi.\n\nAssistant: bad"},
    "ShareGPT": {"conversations": [{"from": "human", "value": "Hi."}], "chosen": {"from": "gpt", "value": "NEW"}, "rejected": {"from": "gpt", "value": "bad"}},
    "instruction": {"instruction": "Hi.", "input": "", "chosen": "NEW", "rejected": "bad"},
    "OpenAI's": {"input": {"messages": [U]}, "preferred_output": [GOOD], "non_preferred_output": [said("bad")]},
    "messages that end in the chosen one": {"messages": [U, GOOD], "chosen": "NEW", "rejected": "bad"},
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_preference_pair_gives_two_dialogues(case: str) -> None:
    found = parse_records({**PAIRS[case], "id": 7})
    assert [(item.id, item.response) for item in found if isinstance(item, Dialogue)] == [
        ("7#chosen", "NEW"),
        ("7#rejected", "bad"),
    ]
    assert {item.context[-1].content for item in found if isinstance(item, Dialogue)} == {"Hi."}


def test_fault_of_one_of_a_pair_costs_not_the_other() -> None:
    chosen, rejected = parse_records({"prompt": "Hi.", "chosen": "NEW", "rejected": " "})
    assert isinstance(chosen, Dialogue)
    assert isinstance(rejected, RecordError)


def test_text_is_read_as_a_record_only_where_it_is_one() -> None:
    inner = '{"dialog": [{"speaker": "usr", "text": "Hi."}, {"speaker": "sys", "text": "NEW"}]}'
    assert [parse_record({"id": "a", key: f" {inner}"}).response for key in ("text", "Text")] == ["NEW", "NEW"]
    for text in ("{no JSON", '{"dialog": 1}', '{"lyrics": "la"}', "Hi.", "[1]"):
        with pytest.raises(RecordError, match="no_messages: keys text"):
            parse_record({"text": text})


def test_sys_is_who_answers_only_beside_usr() -> None:
    assert (
        parse_record(
            {
                "dialog": [
                    {"speaker": "sys", "text": "Hi."},
                    {"speaker": "usr", "text": "Hm."},
                    *[{"speaker": "sys", "text": "NEW"}],
                ]
            }
        ).response
        == "NEW"
    )
    with pytest.raises(RecordError, match="unknown_role: turn 1 has role str 'sys'"):  # a system prompt, perhaps
        parse_record({"messages": [{"role": "sys", "content": "Be kind."}, U, A]})


@pytest.mark.parametrize("context", [["Hi.", ""], [], ["Hi.", 1], [None]])
def test_list_that_is_no_list_of_texts_is_a_reject(context: list[Any]) -> None:
    with pytest.raises(RecordError, match=r"empty_turn|wrong_type"):
        parse_record({"context": context, "response": "NEW"})


def test_question_is_in_the_context_with_what_it_is_about() -> None:
    value = {"instruction": "When was it built?", "context": "Built in 1852.", "response": "In 1852."}
    assert [turn.content for turn in parse_record(value).turns] == ["When was it built?\nBuilt in 1852.", "In 1852."]


def test_system_prompt_beside_the_turns_counts_as_one_among_them() -> None:
    inline = {"messages": [said("Be kind.", "system"), U, GOOD]}
    for beside in (
        {"messages": [U, GOOD]},
        {"prompt": "Hi.", "response": "NEW"},
        {"context": "Hi.", "response": "NEW"},
    ):
        for system in (
            "Be kind.",
            ["Be kind."],
            [{"type": "text", "text": "Be kind."}],
            {"parts": [{"text": "Be kind."}]},
        ):
            dialogue = parse_record({**beside, "system": system})
            assert dialogue == parse_record(inline)
            assert dialogue.notes.top_system


@pytest.mark.parametrize(
    ("more", "id_", "category"),
    [
        ({"id": 2.0}, "2", None),
        ({"id": uuid.UUID(int=5).bytes}, str(uuid.UUID(int=5)), None),
        ({"id": {"$oid": "5f"}}, "5f", None),
        ({"id": "a", "category": ["sad", "angry", 3]}, "a", "sad, angry, 3"),
        ({"id": "a", "category": 4}, "a", "4"),
        ({"id": "a", "category": float("nan")}, "a", None),
        ({"id": "a", "category": {"x": 1}, "conversation": {}}, "a", None),
    ],
)
def test_odd_key_costs_no_dialogue(more: dict[str, Any], id_: str, category: str | None) -> None:
    dialogue = parse_record({"messages": [U, GOOD], **more})
    assert (dialogue.id, dialogue.category) == (id_, category)


def test_notes_tell_what_was_left_out() -> None:
    turns = [
        U,
        CALL,
        said("7", "tool"),
        said([{"type": "text", "text": "<think>x</think>NEW"}, {"type": "image"}]),
        AGAIN,
    ]
    notes = parse_record({"messages": turns, "id": "1", "model": "m", "category": "c"}).notes
    assert (notes.layout, notes.used, notes.aside) == ("messages", ("messages", "id", "category"), ("model",))
    assert (notes.tool_turns, notes.parts, notes.thoughts, notes.later_turns, notes.ends_in_user) == (2, 1, 1, 1, True)


@pytest.mark.parametrize("first", ["😢", "???", "Hi."])
def test_conversations_that_share_a_system_prompt_or_an_emoji_are_different(first: str) -> None:
    def key(*texts: tuple[str, str]) -> str:
        return parse_record({"messages": [said(text, role) for role, text in texts]}).conversation

    def whole(user: str) -> str:
        return key(("system", "Be kind."), ("user", user), ("assistant", "Oh."))

    assert whole(first) != whole("My dog died.")
    assert key(("user", first), ("assistant", "a")) != key(("user", "😭"), ("assistant", "a"))
    longer = key(("user", first), ("assistant", "a"), ("user", "b"), ("assistant", "c"))
    assert longer == key(("user", first), ("assistant", "a"))


def test_conversation_that_the_listener_began_has_one_key() -> None:
    long = parse_record({"messages": [A, U, A, AGAIN, GOOD]})
    assert long.conversation == parse_record({"messages": [A, U, A]}).conversation
    assert long.conversation != conversation_key((long.turns[0],))


def test_error_names_the_keys_and_the_nearest_layout() -> None:
    with pytest.raises(
        RecordError, match=r"keys completoin, k0, k1, .*nearest layout prompt, completion: completion lack"
    ):
        parse_record({"completoin": "x", "prompt": "Hi.", **{f"k{number}": 1 for number in range(12)}})


@pytest.mark.parametrize(
    "value", [{"Context": "Hi.", "Response": "NEW", "ID": 7}, {"prompt": "Hi.", "Output ": "NEW", "Id": "7"}]
)
def test_names_of_columns_are_known_in_any_case_where_none_is_known_as_it_stands(value: dict[str, Any]) -> None:
    dialogue = parse_record(value)
    assert (dialogue.id, *(turn.content for turn in dialogue.turns)) == ("7", "Hi.", "NEW")
    assert parse_record({"prompt": "Hi.", "response": "NEW", "Response": "OLD"}).response == "NEW"
    with pytest.raises(RecordError, match="keys Completoin, prompt, "):  # as the record has them
        parse_record({"prompt": "Hi.", "Completoin": "NEW"})
    with pytest.raises(RecordError, match="keys RESPONSE, Response, prompt"):  # which one is meant?
        parse_record({"Response": "OLD", "prompt": "Hi.", "RESPONSE": "NEW"})


FIELDS: list[tuple[dict[str, str], dict[str, Any], tuple[str, ...]]] = [
    ({"response": "a", "context": "q"}, {"a": "NEW", "q": "Hi."}, ("Hi.", "NEW")),
    ({"response": "a", "context": "q"}, {"a": "NEW", "q": "x</s>y</s>z", "response": "OLD"}, ("x", "y", "z", "NEW")),
    ({"messages": "log.turns"}, {"log": {"turns": [U, GOOD]}}, ("Hi.", "NEW")),
    ({"messages": "m", "response": "a"}, {"m": OPEN, "a": "NEW", "output": "x"}, ("Hi.", "OLD", "And you?", "NEW")),
    ({"response": "a"}, {"prompt": "Hi.", "a": "NEW", "completion": "OLD"}, ("Hi.", "NEW")),
    (
        {"context": "c"},
        {"c": "User: Hi.\nBot: OLD\nUser: Bye?", "prompt": "Go.", "response": "NEW"},
        ("Hi.", "OLD", "Bye?", "NEW"),
    ),
    ({"response": "a", "context": "q"}, {"user": "Anna Smith", "q": "Hi.", "a": "NEW"}, ("Hi.", "NEW")),
    (
        {"response": "outputs.a", "context": "inputs.q"},
        {"inputs": {"q": "Hi."}, "outputs": {"a": "NEW"}},
        ("Hi.", "NEW"),
    ),
]


@pytest.mark.parametrize(("fields", "value", "expected"), FIELDS)
def test_columns_are_what_they_are_said_to_be(
    fields: dict[str, str], value: dict[str, Any], expected: tuple[str, ...]
) -> None:
    (dialogue,) = parse_records({**value, "uid": "u1"}, fields={**fields, "id": "uid"})
    assert isinstance(dialogue, Dialogue)
    assert (dialogue.id, *(turn.content for turn in dialogue.turns)) == ("u1", *expected)


def test_texts_without_roles_are_turns_only_where_they_are_said_to_be() -> None:
    said = ["Hi.", "Hello.", "And you?", "NEW"]
    record = {"dialog": said, "act": [1, 1, 2, 1]}
    with pytest.raises(
        RecordError, match=r"wrong_type: turn 1 is str 'Hi.*--map messages=COLUMN takes the last for the answer"
    ):
        parse_record(record)
    for texts in (said, said[1:]):
        (dialogue,) = parse_records({**record, "dialog": texts}, fields={"messages": "dialog"})
        assert isinstance(dialogue, Dialogue)
        assert [turn.content for turn in dialogue.turns] == texts
        assert [turn.role for turn in dialogue.turns] == ["user", "assistant", "user", "assistant"][-len(texts) :]
    (fault,) = parse_records({"dialog": ["Hi."]}, fields={"messages": "dialog"})
    assert isinstance(fault, RecordError)
    assert fault.reason == "one_speaker"


def test_column_that_is_not_there_is_a_reject() -> None:
    with pytest.raises(RecordError, match="no column 'nope' for response; keys q"):
        parse_records({"q": "Hi."}, fields={"response": "nope"})
