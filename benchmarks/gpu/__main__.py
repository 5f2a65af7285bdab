"""Engines on a GPU: ``python -m benchmarks.gpu RELEASE [--scorer BUNDLE] [--provider cuda|cpu]``.

RELEASE is a folder of the published release (or any input of dialogues), from which any number of dialogues of real
lengths are made. Two models: the scorer (left out, the starter) and one of RoBERTa-base's size with random weights. For
each a table: the engine alone by variant, and from JSON lines to Parquet. Under four minutes on a GPU: what does not
fit says so. ``--provider cpu`` runs all of it on the processor, in small.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.throughput.dialogues import real_dialogues, varied, write
from benchmarks.throughput.machine import hardware, versions
from benchmarks.throughput.models import checkpoint_of, write_roberta
from distill.pretrained import quiet_transformers
from scorer.bundle.bundle import Bundle, load_bundle
from scorer.cli.table import table_lines
from scorer.dialogue import Dialogue
from scorer.engines.base import available_cores
from scorer.outputs import write_json

_SIZES = {"cuda": (60_000, 12_000, 200_000, 40_000), "cpu": (32, 8, 100, 16)}
"""Dialogues for the engine alone and end to end, of the scorer and of the large model."""


@click.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True))
@click.option("--scorer", type=click.Path(path_type=Path), help="[default: the starter]")
@click.option("--provider", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--large/--no-large", default=True, help="Also a model of RoBERTa-base's size.  [default: yes]")
@click.option("--end-to-end/--engine-only", "whole", default=True, help="Also the command.  [default: yes]")
@click.option("--seconds", type=float, default=225.0, show_default=True, help="No variant begins after so many.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    release: Path,
    scorer: Path | None,
    provider: str,
    json_path: Path | None,
    seconds: float,
    *,
    large: bool,
    whole: bool,
) -> None:
    """Print the tables."""
    quiet_transformers()
    began = time.monotonic()
    until = began + seconds
    real = real_dialogues(release)
    machine = {**hardware(available_cores()), "gpu": _gpu_name()}
    print(f"{machine['processor']}, {machine['cores']} cores; {machine['gpu'] or 'no GPU'}")
    tables = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        first, second, whole_first, whole_second = _SIZES[provider]
        sizes = [(first, whole_first), (second, whole_second)]
        for number, (count, count_whole) in enumerate(sizes if large else sizes[:1]):
            if number == 0:
                bundle = load_bundle(scorer)
                title, checkpoint = bundle.info.name, checkpoint_of(bundle, work / "checkpoint")
            else:
                bundle, checkpoint = _large(work, real, layers=12 if provider == "cuda" else 1)
                title = "RoBERTa-base's size, random weights"
            left = until - time.monotonic()
            share = time.monotonic() + left * (0.7 if number or not large else 0.4)
            rows = _engine_rows(bundle, checkpoint, list(varied(real, count)), provider, share)
            if whole:
                rows += _whole_rows(bundle, real, count_whole, provider, until, work / f"{number}")
            tables[title] = rows
            print(f"\n{title}, {count:,} dialogues by the engine alone, {count_whole:,} end to end")
            print("\n".join(_lines(rows)), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s in all")
    if json_path is not None:
        write_json(json_path, {"benchmark": "gpu", "machine": machine, "versions": versions(), "tables": tables})


def _engine_rows(
    bundle: Bundle, checkpoint: Path, dialogues: list[Dialogue], provider: str, until: float
) -> list[dict[str, Any]]:
    import onnx
    import torch

    from benchmarks.gpu import onnx_variants, torch_variants
    from benchmarks.gpu.rows import Work
    from distill.exporting.first_token import to_onnx
    from distill.exporting.quantise import to_half
    from scorer.engines.onnxruntime import OnnxRuntimeEngine
    from scorer.model import Scorer
    from selection.rules import PAPER

    reference_engine = Scorer(bundle, OnnxRuntimeEngine(bundle))
    encoded = reference_engine.encoder.encode(dialogues)
    gpu = provider == "cuda"
    work = Work(
        encoded=encoded,
        reference=reference_engine.run(encoded[: 600 if gpu else 16]),
        decide=lambda scores: PAPER.apply(scores.clip(0, 10), bundle.info.cuts),
        batch_tokens=1 << 16 if gpu else 1024,
        until=until,
        pad_id=bundle.info.pad_id,
    )
    shipped = onnx.load_from_string(bundle.model_for("fp32"))
    from transformers import AutoModelForSequenceClassification

    torch_model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, attn_implementation="sdpa", trust_remote_code=False
    ).eval()
    eager = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, attn_implementation="eager", trust_remote_code=False
    ).eval()
    config, device = torch_model.config, "cuda" if gpu else "cpu"

    def fused() -> tuple[Any, str]:
        whole = to_onnx(eager)
        model, note = onnx_variants.fused_half(
            whole, heads=config.num_attention_heads, hidden=config.hidden_size, gpu=gpu
        )
        return onnx_variants.make(onnx_variants.int32_inputs(model), provider, at_once=2), note

    def torch_run(dtype: torch.dtype, *, packing: bool = False) -> tuple[Any, str]:
        if not gpu and dtype == torch.float16:
            dtype = torch.bfloat16  # which processors compute
        model = copy.deepcopy(torch_model)
        return (
            torch_variants.packed(model, device, dtype)
            if packing
            else (torch_variants.padded(model, device, dtype), "")
        )

    half = "fp16" if gpu else "bf16"
    make = onnx_variants.make
    work.measure(f"onnxruntime-{provider} fp32, arrays", lambda: (make(shipped, provider, bound=False), "as shipped"))
    work.measure("the same, bound inputs", lambda: (make(shipped, provider), ""))
    work.measure("the same, two batches under way", lambda: (make(shipped, provider, at_once=2), ""))
    narrow = onnx_variants.int32_inputs(shipped)
    work.measure("the same, inputs in int32", lambda: (make(narrow, provider, at_once=2), ""))
    work.measure("onnxruntime fp16, as exported", lambda: (make(to_half(to_onnx(eager)), provider, at_once=2), ""))
    work.measure(f"onnxruntime {'fp16' if gpu else 'fp32'}, fused attention", fused)
    work.measure("torch fp32, SDPA, padded", lambda: torch_run(torch.float32))
    work.measure(f"torch {half}, SDPA, padded", lambda: torch_run(torch.float16))
    work.measure(f"torch {half}, packed", lambda: torch_run(torch.float16, packing=True))
    work.measure("torch fp32, packed", lambda: torch_run(torch.float32, packing=True) if not gpu else _skipped())
    work.measure("onnxruntime-tensorrt fp16", lambda: (make(to_onnx(eager), "tensorrt", half=True), "builds first"))
    return [asdict(row) for row in work.rows]


def _skipped() -> Any:
    raise ValueError("flash attention has no fp32")


def _whole_rows(
    bundle: Bundle, real: list[Dialogue], count: int, provider: str, until: float, folder: Path
) -> list[dict[str, Any]]:
    """Return the rate of `empathy score` from JSON lines to Parquet, starting included, by engine."""
    folder.mkdir()
    source = write(varied(real, count), folder / "in.jsonl")
    rows = []
    name = "onnxruntime-cuda" if provider == "cuda" else "onnxruntime"
    for precision in ("fp32", "fp16") if provider == "cuda" else ("fp32",):
        row: dict[str, Any] = {"name": f"empathy score, {name} {precision}"}
        left = until - time.monotonic()
        command = [sys.executable, "-c", "from scorer.cli.main import run; run()", "score", str(source)]
        command += ["-o", str(folder / f"{precision}.parquet"), "--scorer", str(bundle.path), "--engine", name]
        began = time.monotonic()
        try:
            done = subprocess.run(
                [*command, "--precision", precision], capture_output=True, text=True, timeout=max(left, 1), check=False
            )
        except subprocess.TimeoutExpired:
            rows.append({**row, "reason": "no time was left"})
            continue
        if done.returncode:
            rows.append({**row, "reason": done.stderr.strip().splitlines()[-1][:160]})
            continue
        said = next((line for line in done.stderr.splitlines() if line.startswith("scored")), "")
        rows.append({**row, "rate": count / (time.monotonic() - began), "note": f"with start-up; {said}"})
    return rows


def _large(work: Path, real: list[Dialogue], *, layers: int) -> tuple[Bundle, Path]:
    """Return the bundle and the checkpoint of a RoBERTa of base size with random weights."""
    from distill.exporting.export import export_bundle
    from distill.exporting.settings import ExportSettings
    from distill.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(write_roberta(work / "large-checkpoint", layers=layers))
    settings = ExportSettings(weights="fp32", precisions=("fp32",), probe=0, half=layers > 1)
    check = real[:200] if layers > 1 else ()
    return export_bundle(checkpoint, work / "large", check, settings), checkpoint.path


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    best = max((row["rate"] for row in rows if row["name"].startswith("torch") and row.get("rate")), default=None)
    heading = ("variant", "per second", "tokens/s", "of torch's best", "correlation", "changed", "largest", "")
    cells = [heading]
    for row in rows:
        if row.get("rate") is None:
            cells.append((row["name"], *[""] * 6, f"not run: {row['reason']}"))
            continue
        shown = (
            f"{row['rate']:,.0f}",
            f"{row['tokens']:,.0f}" if row.get("tokens") else "",
            f"{row['rate'] / best:.0%}" if best else "",
            f"{row['correlation']:.6f}" if row.get("correlation") is not None else "",
            f"{row['flips']:.2%}" if row.get("flips") is not None else "",
            f"{row['largest']:.4f}" if row.get("largest") is not None else "",
        )
        cells.append((row["name"], *shown, row.get("note", "")))
    yield from table_lines(cells, left=(0, 7))


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
