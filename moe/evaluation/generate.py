"""`empathy moe generate`: a checkpoint answers dialogues, batch by batch; a killed run resumes where it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from moe.errors import ModelError, SetError, SettingError
from moe.evaluation.responses import FIX_AND_REPEAT, Journal, Placed, Response, RunIdentity, write_lines
from moe.models import load_causal, load_tokenizer, model_hash
from moe.sets.chat import Chat, Dropped, Example
from moe.settings import CandidateSettings, GenerateSettings
from scorer.apart import check_apart, check_own, first_record
from scorer.dialogue import Dialogue, Turn
from scorer.inputs.parse import Reject
from scorer.locks import locked
from scorer.outputs import check_new, writing
from scorer.progress import Progress, Silent

Prompt = tuple[Dialogue, Example]

_WINDOW = 64  # batches whose dialogues are sorted by length


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A record that is no dialogue, or too long a one: its place, and a line of OUT.rejects.jsonl."""

    source: str
    line: int
    id: str | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How many responses were written, how many records could not be answered, and how many candidates are copies."""

    responses: int
    rejected: int
    copies: int = 0


def generate_responses(
    model_name: str,
    records: Iterable[Dialogue | Reject],
    output: Path,
    settings: GenerateSettings,
    *,
    candidates: CandidateSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Answered:
    """Write the model's ``Response`` to each dialogue, as JSON lines in the order read; with ``candidates`` several.

    Records that cannot be answered go to OUT.rejects.jsonl. OUT.partial holds the work until all is done; the same
    command resumes it. ``progress`` is told the dialogues that are done, in a stage that the caller began.
    """
    with locked(output):
        n = (candidates or CandidateSettings()).n
        return _generate(model_name, records, output, settings, n, progress or Silent(), overwrite=overwrite)


def _generate(
    model_name: str,
    records: Iterable[Dialogue | Reject],
    output: Path,
    settings: GenerateSettings,
    n: int,
    progress: Progress,
    *,
    overwrite: bool,
) -> Answered:
    if n > 1 and not settings.sample:
        raise SettingError(f"n is {n} and all responses to a dialogue would be the same, the likeliest; say --sample")
    check_new(output, overwrite=overwrite)
    check_apart(output, model_name)
    check_own(output, lambda path: first_record(path).keys() >= {"messages", "reference", "finished"}, "responses")
    chat = Chat(load_tokenizer(model_name), settings.max_length)
    with writing(output, then=FIX_AND_REPEAT):
        journal = Journal(output, RunIdentity(model=model_hash(model_name), settings=settings, n=n))
        rejects: list[Unanswered] = []
        model = None
        count = done = 0
        for batch in _batches(_prompts(records, chat, settings, rejects), settings.batch_size):
            key = _batch_hash(batch)
            for candidate in range(n):
                entry = count * n + candidate
                if journal.responses(entry, key) is None:
                    model = model or load_causal(model_name).eval()
                    found = answer(model, chat, batch, settings, count, candidate)
                    journal.add(key, found if n == 1 else _numbered(found, candidate, n))
                progress.update(done + len(batch) * (candidate + 1) / n)
            count, done = count + 1, done + len(batch)
        if not done:
            first = f"; the first: {rejects[0].detail}" if rejects else ""
            raise SetError(f"no dialogue to answer among {len(rejects)} records{first}")
        copies = journal.finish(count * n)
        reject_path = output.with_name(f"{output.name}.rejects.jsonl")
        reject_path.unlink(missing_ok=True)
        if rejects:
            write_lines(reject_path, rejects, ascii_only=True)
    return Answered(responses=done * n, rejected=len(rejects), copies=copies)


def _numbered(found: list[Placed], candidate: int, n: int) -> list[Placed]:
    """Return responses as one of ``n`` candidates, which stand together in the output."""
    number = candidate + 1
    return [(place * n + candidate, replace(one, id=f"{one.id}#{number}", candidate=number)) for place, one in found]


@torch.inference_mode()
def answer(
    model: Any, chat: Chat, batch: list[tuple[int, Prompt]], settings: GenerateSettings, number: int, candidate: int = 0
) -> list[Placed]:
    """Return each response of a batch, with its place in the output.

    Sampling is seeded by the numbers of the batch and of the candidate, so that an interrupted run gives what a whole
    one would, and more candidates begin with the same ones.
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
        # On a processor the last 32 bits count. In these, multiples of the golden ratio lie far apart.
        torch.manual_seed(settings.seed * 1_000_003 + number + candidate * 2_654_435_769)
        temperature, top_p = float(settings.temperature), float(settings.top_p)  # the library takes no integers
        how = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
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
        (
            place,
            Response(
                id=dialogue.id,
                conversation=dialogue.conversation,
                messages=(*dialogue.context, Turn("assistant", text.strip())),
                reference=dialogue.response,
                finished=any(token in ends for token in row),
            ),
        )
        for (place, (dialogue, _)), text, row in zip(batch, texts, tokens, strict=True)
    ]


def _prompts(
    records: Iterable[Dialogue | Reject], chat: Chat, settings: GenerateSettings, rejects: list[Unanswered]
) -> Iterator[Prompt]:
    room = settings.max_length - settings.max_new_tokens
    for record in records:
        found = chat.prompt(record, room) if isinstance(record, Dialogue) else record
        if isinstance(found, Example) and isinstance(record, Dialogue):
            yield record, found
        elif isinstance(found, Dropped | Reject):
            why = Unanswered(
                source=record.source, line=record.line, id=record.id, reason=found.reason, detail=found.detail
            )
            rejects.append(why)


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
    if not isinstance(known, int | None) and not (
        isinstance(known, list) and all(isinstance(token, int) for token in known)
    ):
        raise ModelError(f"{model.name_or_path}: its generation_config.json has the end token {known!a:.60}, no number")
    return sorted({int(chat.tokenizer.eos_token_id), *(known if isinstance(known, list) else [known] if known else [])})
