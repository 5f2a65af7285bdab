"""Checkpoints to measure with: the weights of a bundle, or a RoBERTa-base with random weights.

python -m benchmarks.throughput.models of-bundle BUNDLE FOLDER
python -m benchmarks.throughput.models roberta-base FOLDER [--tokenizer FOLDER]

The first gives the peers the same weights that `empathy score` uses; weights stored as int8 are converted to float. The
second needs no hub; `empathy export FOLDER -o BUNDLE` makes its bundle. Its scores are meaningless; its rates and drift
are not.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import msgspec
import numpy as np
import numpy.typing as npt

from scorer.bundle.bundle import STARTER, Bundle, load_bundle
from scorer.bundle.cuts import LEVELS
from scorer.dialogue import HEADS
from scorer.outputs import new_folder

RANDOM = "random weights"
"""The start of the name of a scorer whose scores are meaningless."""

Arrays = dict[str, npt.NDArray[np.float32]]


def weights_of(bundle: Bundle) -> Arrays:
    """Return the weights in a bundle's model.onnx by the names that its torch model gives them.

    The exporter renames and transposes the weights of a MatMul; the node keeps the name of its layer.
    """
    import onnx  # an extra
    from onnx import numpy_helper

    graph = onnx.load_from_string(bundle.model_for("fp32")).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights: Arrays = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            stored, scale = (arrays[name] for name in node.input[:2])
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            arrays[node.output[0]] = stored.astype(np.float32) * np.expand_dims(scale, 1 - axis)
        if node.op_type == "MatMul" and node.input[1] in arrays:
            name = node.name.removesuffix("/MatMul").strip("/").replace("/", ".") + ".weight"
            weights[name] = np.ascontiguousarray(arrays[node.input[1]].T)
    for name, array in arrays.items():
        if name.endswith(".int8") and f"{name.removesuffix('.int8')}.float" not in arrays:  # a table of embeddings
            array = array.astype(np.float32) * arrays[f"{name.removesuffix('.int8')}.scale"]
        plain = name.removesuffix(".int8").removesuffix(".float")
        if plain.endswith((".weight", ".bias")) and array.dtype == np.float32:
            weights[plain] = array
    return weights


def _torch_name(name: str) -> str:
    """Return a weight's name in a BERT: `empathy export` wraps it and names the last products by their place."""
    for place, product in enumerate(("query", "key", "value")):
        name = name.replace(f".self.linear.{place}.", f".self.{product}.")
    return name.removeprefix("model.")


def checkpoint_of(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle's weights as a Hugging Face folder; ClickException if they are not all found."""
    import torch  # an extra
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(bundle.path, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    weights = {_torch_name(name): torch.from_numpy(np.array(array)) for name, array in weights_of(bundle).items()}
    missing = [name for name, _ in model.named_parameters() if name not in weights]
    if missing:
        raise click.ClickException(
            f"{bundle.path}: its model.onnx has no weights named {', '.join(missing[:3])}; give its --checkpoint"
        )
    model.load_state_dict(weights, strict=False)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(bundle.path, trust_remote_code=False).save_pretrained(folder)
    return folder


@click.group()
def main() -> None:
    """Make a checkpoint."""


@main.command("of-bundle")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def of_bundle(bundle: Path, folder: Path) -> None:
    """Write the weights of BUNDLE as a Hugging Face checkpoint into FOLDER."""
    print(checkpoint_of(load_bundle(bundle), folder))


@main.command("roberta-base")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tokenizer", type=click.Path(path_type=Path), default=STARTER, help="[default: the starter's]")
def roberta_base(folder: Path, tokenizer: Path) -> None:
    """Write a RoBERTa of base size with random weights, as a checkpoint that `empathy export` takes."""
    print(write_roberta(folder, tokenizer))


def write_roberta(folder: Path, tokenizer: Path = STARTER, *, layers: int = 12) -> Path:
    """Write a RoBERTa of base size, or of fewer ``layers``, with random weights as a checkpoint; return its folder."""
    import torch  # an extra
    from transformers import AutoTokenizer, PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

    from distill.training.checkpoint import CheckpointInfo, save_checkpoint
    from distill.training.network import load_backbone

    torch.manual_seed(0)
    found = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    spelling = PreTrainedTokenizerFast(  # without token types, of which RoBERTa has one
        tokenizer_object=found.backend_tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        pad_token=found.pad_token,
        unk_token=found.unk_token,
        cls_token=found.cls_token,
        sep_token=found.sep_token,
    )
    config = RobertaConfig(
        vocab_size=50265,
        hidden_size=768,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=spelling.pad_token_id,
        bos_token_id=spelling.cls_token_id,
        eos_token_id=spelling.sep_token_id,
        problem_type="regression",
        id2label=dict(enumerate(HEADS)),
        label2id={head: i for i, head in enumerate(HEADS)},
    )
    model = RobertaForSequenceClassification(config)
    torch.nn.init.constant_(model.classifier.out_proj.bias, 5.0)  # in the middle of the scale, where nothing is clipped
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        spelling.save_pretrained(name)
        backbone = load_backbone(name)
    # The manifest is the starter's, without everything that would be a claim about these weights.
    info = json.loads((STARTER / "scorer.json").read_bytes())
    kept = ("created", "max_length", "uncertainty", "measured", "settings", "domain")
    training = {**info["training"], "content_hashes": [], "unlabelled_hashes": [], "dialogues": 0, "unlabelled": 0}
    known = {
        **{key: info[key] for key in kept},
        "backbone": f"{RANDOM}, RoBERTa-base",
        "versions": {},
        "bf16": False,
        "part": "nothing",
        "training": training,
        "cuts": {head: list(LEVELS) for head in HEADS},
        "calibration": {"slope": [1, 1], "intercept": [0, 0]},
    }
    with new_folder(folder) as unfinished:
        save_checkpoint(unfinished, model, backbone, msgspec.convert(known, CheckpointInfo))
    return folder


if __name__ == "__main__":
    main()
