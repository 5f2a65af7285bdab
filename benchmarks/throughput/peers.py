"""The peers, each run as its documentation says: JSON lines in, Parquet out, in its own process.

python -m benchmarks.throughput.peers NAME --model FOLDER --source IN --output OUT --max-length N --threads N

All score the text pairs that `empathy score` tokenises, as logits without an activation. sentence-transformers sorts by
length itself; transformers' pipeline and optimum do not sort, since their documentation does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from scorer.dialogue import HEADS, Dialogue, Turn, render

BATCH_SIZE = 32
"""sentence-transformers' default; its documentation and optimum's use it throughout."""

Pairs = list[tuple[str, str]]
Scores = npt.NDArray[np.float32]
Peer = Callable[[Path, Pairs, int, int], Scores]


def read(path: Path) -> tuple[list[str], Pairs]:
    """Return the ids and the text pairs of a file of JSON lines."""
    ids, pairs = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            turns = tuple(Turn(message["role"], message["content"]) for message in record["messages"])
            ids.append(record["id"])
            pairs.append(render(Dialogue(id=record["id"], turns=turns, conversation="")))
    return ids, pairs


def write(path: Path, ids: list[str], scores: Scores) -> None:
    """Write ids and scores (N, 2) as Parquet."""
    import pyarrow as pa  # each process loads only what it needs
    import pyarrow.parquet as pq

    pq.write_table(pa.table([pa.array(ids), *map(pa.array, scores.T)], names=["id", *HEADS]), path)


def sentence_transformers(backend: str, precision: str) -> Peer:
    """Return CrossEncoder on one of its backends."""

    def score(model: Path, pairs: Pairs, max_length: int, threads: int) -> Scores:
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(threads)
        encoder = CrossEncoder(
            str(model),
            backend=backend.removesuffix("-O3"),
            max_length=max_length,
            local_files_only=True,
            activation_fn=torch.nn.Identity(),
            model_kwargs=_model_options(backend, precision, threads),
        )
        scores = encoder.predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32)

    return score


def _model_options(backend: str, precision: str, threads: int) -> dict[str, Any]:
    if backend == "torch":
        return {"torch_dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision]}
    if backend == "openvino":  # bf16 is its default if the processor multiplies it
        hint = {"fp32": "f32", "bf16": "bf16"}[precision]
        return {"ov_config": {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads)}}
    name = {"onnx": "model.onnx", "onnx-O3": "model_O3.onnx"}[backend]
    return {"provider": "CPUExecutionProvider", "session_options": _session_options(threads), "file_name": name}


def _session_options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def pipeline(model: Path, pairs: Pairs, max_length: int, threads: int) -> Scores:
    """Score with transformers' text-classification pipeline."""
    import torch
    from transformers import pipeline as make_pipeline

    torch.set_num_threads(threads)
    classify = make_pipeline("text-classification", model=str(model), device="cpu")

    def inputs() -> Iterator[dict[str, str]]:
        for context, response in pairs:
            yield {"text": context, "text_pair": response}

    found = classify(
        inputs(), batch_size=BATCH_SIZE, top_k=None, function_to_apply="none", truncation=True, max_length=max_length
    )
    rows = ({entry["label"]: entry["score"] for entry in entries} for entries in found)
    return np.array([[row[head] for head in HEADS] for row in rows], dtype=np.float32)


def optimum(model: Path, pairs: Pairs, max_length: int, threads: int) -> Scores:
    """Score with optimum's ORTModelForSequenceClassification, batch by batch."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    network = ORTModelForSequenceClassification.from_pretrained(
        model, session_options=_session_options(threads), trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    parts = []
    for start in range(0, len(pairs), BATCH_SIZE):
        contexts, responses = zip(*pairs[start : start + BATCH_SIZE], strict=True)
        inputs = tokenizer(
            list(contexts), list(responses), padding=True, truncation=True, max_length=max_length, return_tensors="np"
        )
        parts.append(np.asarray(network(**inputs).logits, dtype=np.float32))
    return np.concatenate(parts)


PEERS: dict[str, Peer] = {
    "st-torch-fp32": sentence_transformers("torch", "fp32"),
    "st-torch-bf16": sentence_transformers("torch", "bf16"),
    "st-onnx-fp32": sentence_transformers("onnx", "fp32"),
    "st-onnx-O3-fp32": sentence_transformers("onnx-O3", "fp32"),
    "st-openvino-fp32": sentence_transformers("openvino", "fp32"),
    "st-openvino-bf16": sentence_transformers("openvino", "bf16"),
    "pipeline-fp32": pipeline,
    "optimum-fp32": optimum,
}
"""Every peer by its row's name."""


EXPORTS = ("onnx-O3", "onnx", "openvino", "optimum")
"""Forms of the checkpoint that peers load."""


def exported(name: str) -> str | None:
    """Return which export of the checkpoint a peer loads, None for the checkpoint itself."""
    return next((kind for kind in EXPORTS if kind in name), None)


def export(kind: str, checkpoint: Path, output: Path) -> None:
    """Export a checkpoint once, as each package's documentation says."""
    if kind == "optimum":
        from optimum.onnxruntime import ORTModelForSequenceClassification
        from transformers import AutoTokenizer

        ORTModelForSequenceClassification.from_pretrained(
            checkpoint, export=True, trust_remote_code=False
        ).save_pretrained(output)
        AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False).save_pretrained(output)
        return
    from sentence_transformers import CrossEncoder
    from sentence_transformers.backend import export_optimized_onnx_model

    backend = kind.removesuffix("-O3")
    options = {"export": True, **({"provider": "CPUExecutionProvider"} if backend == "onnx" else {})}
    encoder = CrossEncoder(str(checkpoint), backend=backend, model_kwargs=options, local_files_only=True)
    encoder.save_pretrained(str(output))
    if kind == "onnx-O3":
        export_optimized_onnx_model(encoder, "O3", str(output))


@click.command()
@click.argument("name", type=click.Choice([*PEERS, *(f"export-{kind}" for kind in EXPORTS)]))
@click.option("--model", type=click.Path(path_type=Path), required=True)
@click.option("--source", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--max-length", type=int)
@click.option("--threads", type=int)
def main(
    name: str, model: Path, source: Path | None, output: Path, max_length: int | None, threads: int | None
) -> None:
    """Score SOURCE with a peer, or export a checkpoint for one."""
    if name.startswith("export-"):
        export(name.removeprefix("export-"), model, output)
        return
    assert source is not None
    assert max_length is not None
    assert threads is not None
    ids, pairs = read(source)
    write(output, ids, PEERS[name](model, pairs, max_length, threads))


if __name__ == "__main__":
    main()
