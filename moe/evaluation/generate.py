"""`empathy moe generate`: a checkpoint answers dialogues, batch by batch; a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from moe.errors import SetError
from moe.models import ADAPTER_CONFIG, find_model, load_causal, load_tokenizer, open_weights, read_adapter_config
from moe.sets.chat import Chat, Dropped, Example
from moe.settings import GenerateSettings
from scorer.dialogue import Dialogue, Turn
from scorer.errors import OutputError
from scorer.inputs.parse import Reject, to_messages
from scorer.outputs import replacing, writing

Prompt = tuple[Dialogue, Example]
OnBatch = Callable[[int], None]
"""Hears the number of dialogues answered so far."""

_WINDOW = 64  # batches whose dialogues are sorted by length


def generate(
    model_name: str,
    records: Iterable[Dialogue | Reject],
    output: Path,
    settings: GenerateSettings,
    *,
    overwrite: bool = False,
    on_batch: OnBatch = lambda _: None,
) -> dict[str, int]:
    """Write a response of the model to each dialogue, as JSON lines in the order read; return how many there are.

    A line has ``id``, ``conversation``, ``messages`` (the context and the response), ``reference`` (the response that
    the dialogue had) and ``finished`` (whether the model ended by itself). Records that are no dialogue, or too long a
    one, go to OUT.rejects.jsonl. OUT.partial holds the work until all is done; the same command goes on with it.
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already; name another output or say --overwrite")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    chat = Chat(load_tokenizer(model_name), settings.max_length)
    with writing(output, then="; mend that and give the same command again"):
        journal = _Journal(output, {"model": model_hash(model_name), "settings": settings.to_json()})
        rejects: list[dict[str, Any]] = []
        model = None
        count = done = 0
        for batch in _batches(_prompts(records, chat, settings, rejects), settings.batch_size):
            kept = journal.responses(count, _batch_hash(batch))
            if kept is None:
                model = model or load_causal(model_name).eval()
                journal.add(_batch_hash(batch), answer(model, chat, batch, settings, count))
            count, done = count + 1, done + len(batch)
            on_batch(done)
        if not done:
            first = f"; the first: {rejects[0]['detail']}" if rejects else ""
            raise SetError(f"no dialogue to answer among {len(rejects)} records{first}")
        journal.finish(count)
        _write_rejects(output.with_name(f"{output.name}.rejects.jsonl"), rejects)
    return {"responses": done, "rejected": len(rejects)}


@torch.inference_mode()
def answer(
    model: Any, chat: Chat, batch: list[tuple[int, Prompt]], settings: GenerateSettings, number: int
) -> list[tuple[int, dict[str, Any]]]:
    """Return the record of each response of a batch, with its place in the output.

    Sampling is seeded by the batch's number, so that an interrupted run gives what a whole one would.
    """
    prompts = [prompt for _, (_, prompt) in batch]
    length = max(map(len, prompts))
    ids = np.full((len(prompts), length), chat.pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # padded on the left, so that all go on at the same place
        ids[row, length - len(prompt) :] = prompt.ids
        mask[row, length - len(prompt) :] = 1
    ends = _ends(model, chat)
    how: dict[str, Any] = {"do_sample": False}
    if settings.sample:
        torch.manual_seed(settings.seed * 1_000_003 + number)
        how = {
            "do_sample": True,
            "temperature": float(settings.temperature),
            "top_p": float(settings.top_p),
            "top_k": 0,
        }
    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        pad_token_id=chat.pad_id,
        eos_token_id=ends,
        bos_token_id=model.generation_config.bos_token_id,
        **how,
    )
    tokens = model.generate(
        input_ids=torch.from_numpy(ids).to(model.device),
        attention_mask=torch.from_numpy(mask).to(model.device),
        generation_config=config,
    )[:, length:].tolist()
    texts = chat.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [
        (place, _record(dialogue, text.strip(), finished=any(token in ends for token in row)))
        for (place, (dialogue, _)), text, row in zip(batch, texts, tokens, strict=True)
    ]


def model_hash(name: str) -> str:
    """Return a hash of a checkpoint's weights, an expert's with its base's."""
    folder = find_model(name)
    if not (folder / ADAPTER_CONFIG).exists():
        return open_weights(folder).fingerprint()
    own = sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    return f"{own} on {model_hash(str(read_adapter_config(folder)['base_model_name_or_path']))}"


def read_responses(path: Path) -> list[dict[str, Any]]:
    """Return the lines that ``generate`` wrote."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class _Journal:
    """The finished batches of a run, a line each after a first line that says which run it is."""

    def __init__(self, output: Path, identity: Mapping[str, Any]) -> None:
        self._output = output
        self._path = output.with_name(f"{output.name}.partial")
        self._identity = json.loads(json.dumps(identity))
        self._done: list[Any] = []
        if self._path.exists():
            self._read(self._identity)

    def _read(self, identity: Any) -> None:
        lines = self._path.read_bytes().split(b"\n")[:-1]  # a line without its line feed was being written
        try:
            known, *self._done = [json.loads(line) for line in lines] or [identity]
        except ValueError as error:
            raise OutputError(f"{self._path}: damaged ({error}); remove it and begin again") from None
        if known != identity:
            raise OutputError(f"{self._path}: another model's or another setting's; remove it to begin again")
        with replacing(self._path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in (identity, *self._done))

    def responses(self, number: int, batch: str) -> Any | None:
        """Return the responses of a batch if it was answered; OutputError if it was another one."""
        if number >= len(self._done):
            return None
        if self._done[number]["batch"] != batch:
            raise OutputError(f"{self._path}: the input was changed since; remove it to begin again")
        return self._done[number]["responses"]

    def add(self, batch: str, responses: list[tuple[int, dict[str, Any]]]) -> None:
        entry = {"batch": batch, "responses": responses}
        if not self._path.exists():
            self._append(self._identity)
        self._append(entry)
        self._done.append(entry)

    def finish(self, count: int) -> None:
        placed = sorted((place, record) for entry in self._done[:count] for place, record in entry["responses"])
        with replacing(self._output) as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for _, record in placed)
        self._path.unlink()

    def _append(self, entry: Mapping[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _prompts(
    records: Iterable[Dialogue | Reject], chat: Chat, settings: GenerateSettings, rejects: list[dict[str, Any]]
) -> Iterator[Prompt]:
    room = settings.max_length - settings.max_new_tokens
    for record in records:
        found = chat.prompt(record, room) if isinstance(record, Dialogue) else record
        if isinstance(found, Example) and isinstance(record, Dialogue):
            yield record, found
        elif isinstance(found, Dropped | Reject):
            place = {"source": record.source, "line": record.line, "id": record.id}
            rejects.append(place | {"reason": found.reason, "detail": found.detail})


def _batches(prompts: Iterator[Prompt], size: int) -> Iterator[list[tuple[int, Prompt]]]:
    """Yield batches of prompts with their places in the input; prompts of like length share one."""
    numbered = enumerate(prompts)
    while window := list(islice(numbered, size * _WINDOW)):
        window.sort(key=lambda entry: -len(entry[1][1]))
        for start in range(0, len(window), size):
            yield window[start : start + size]


def _batch_hash(batch: list[tuple[int, Prompt]]) -> str:
    state = sha256()
    for place, (dialogue, prompt) in batch:
        state.update(f"{place}\0{dialogue.id}\0{dialogue.response}\0".encode() + prompt.ids.tobytes())
    return state.hexdigest()[:32]


def _ends(model: Any, chat: Chat) -> list[int]:
    """Return the tokens that end a response: the tokenizer's, and those that the model's own settings name."""
    known = model.generation_config.eos_token_id
    return sorted({int(chat.tokenizer.eos_token_id), *(known if isinstance(known, list) else [known] if known else [])})


def _record(dialogue: Dialogue, text: str, *, finished: bool) -> dict[str, Any]:
    return {
        "id": dialogue.id,
        "conversation": dialogue.conversation,
        "messages": to_messages([*dialogue.context, Turn("assistant", text)]),
        "reference": dialogue.response,
        "finished": finished,
    }


def _write_rejects(path: Path, rejects: list[dict[str, Any]]) -> None:
    path.unlink(missing_ok=True)
    if rejects:
        with replacing(path) as file:
            file.writelines(json.dumps(reject) + "\n" for reject in rejects)
