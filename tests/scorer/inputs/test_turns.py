# ruff: noqa: E501 - a table reads best with one case per line
"""Lists of messages, of whatever make."""

from __future__ import annotations

import pytest

from tests.scorer.inputs.input_data import AGAIN, CALL, GOOD, A, Meant, U, check_meant, said

MEANT: dict[str, Meant] = {
    "messages as text": ({"messages": '[{"role": "user", "content": "Hi."}, {"role": "ai", "content": "NEW"}]'}, "NEW"),
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
    "channels": ({"messages": [U, said("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>NEW")]}, "NEW"),
    "less than is no thought": ({"messages": [U, said("1 < 2 <3 [x]")]}, "1 < 2 <3 [x]"),
    "other roles": ({"messages": [{"from": "human", "value": "Hi."}, {"from": "listener", "value": "NEW"}]}, "NEW"),
    "contents of Gemini": ({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}, {"role": "model", "parts": [{"text": "NEW"}]}]}, "NEW"),
    "a list as Python writes it": ({"messages": str([U, GOOD])}, "NEW"),
    "a list that is broken": ({"messages": "[{'role': 'user', "}, "wrong_type"),
    "parts of an exported chat": ({"messages": [{"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Hi."]}}, GOOD]}, "NEW"),
    "a refusal": ({"messages": [U, said(None, refusal="NEW")]}, "NEW"),
    "a tool's result in a user turn": ({"messages": [U, said([{"type": "tool_use", "id": "1"}]), said([{"type": "tool_result", "content": "7"}], "user"), GOOD]}, "NEW"),
    "two assistant turns in a row": ({"messages": [U, A, GOOD]}, "NEW"),
    "speakers by name": ({"dialogue": [{"speaker": "Anna", "text": "Hi."}, {"speaker": "Bob", "text": "NEW"}]}, "unknown_role"),
    "texts without speakers": ({"dialog": ["Hi.", "NEW"]}, "wrong_type"),
    "ESConv": ({"emotion_type": "sad", "dialog": [{"speaker": "seeker", "content": "Hi."}, {"speaker": "supporter", "content": "NEW", "annotation": {}}]}, "NEW"),
    "WildChat": ({"conversation_hash": "h", "conversation": [{**U, "turn_identifier": 1}, {**GOOD, "turn_identifier": 1}], "turn": 1}, "NEW"),
    "a token at the end": ({"messages": [U, said("NEW</s>")]}, ("Hi.", "NEW")),
    "Gemini's thoughts": ({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}, {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": "NEW"}]}]}, ("Hi.", "NEW")),
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
    "a list as numpy writes it": ({"messages": "[{'role': 'user', 'content': 'Hi.'}\n {'role': 'assistant', 'content': 'NEW'}]"}, ("Hi.", "NEW")),
    "a late system message": ({"messages": [U, said("Be brief.", "system"), AGAIN], "completion": "NEW"}, ("Hi.", "Be brief.", "And you?", "NEW")),
    "a token that the answer speaks of": ({"messages": [U, said("It is <|end_of_text|>")]}, ("Hi.", "It is <|end_of_text|>")),
    "a mark that is opened too": ({"messages": [U, said("Use <s>NEW</s>")]}, ("Hi.", "Use <s>NEW</s>")),
    "two tokens at the end": ({"messages": [U, said("NEW<|im_end|>\n<|endoftext|>")]}, ("Hi.", "NEW")),
    "reasoning beside content": ({"messages": [U, said("NEW", reasoning_content="Hm.")]}, "NEW"),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANT)
def test_the_turns_of_a_list_are_those_that_were_meant(case: str) -> None:
    check_meant(*MEANT[case])
