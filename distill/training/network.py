"""The network: load it with its tokenizer, feed it, read its scores."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from distill.errors import CHECKPOINT_JSON, NEEDS_CODE, TrainError, loading_as
from distill.pretrained import hub_options
from scorer.bundle.bundle import INFO_FILE
from scorer.bundle.encode import Encoded, Encoder
from scorer.bundle.tokenizer.spelling import unspelt
from scorer.dialogue import HEADS
from scorer.engines.base import Scores, collate
from scorer.engines.machine import cpu_features
from scorer.finished import folder_hash
from scorer.progress import Progress, Silent

TRAIN_PAD_MULTIPLE = 16
"""Lengths are padded to a multiple: each new shape costs oneDNN a compilation, and matrix units work in sixteens."""

_FILES = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model")
_PREDICT_TOKENS = {"cpu": 8192, "cuda": 65536}
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # of mallopt, in malloc.h
_MANY, _MOST = re.compile("(layers?|experts)$"), 4096
_LAYER = re.compile(r"\.(?:layer|layers|h|block|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Backbone:
    """An encoder: its tokenizer, and what training needs to know of its configuration."""

    name: str
    tokenizer: Any
    hidden_size: int
    layers: int
    parameters: int
    pad_id: int
    has_token_types: bool
    max_length: int
    commit: str | None = None

    @property
    def sha256(self) -> str:
        """A hash of its files; of one that the hub gave, id and commit."""
        return content_of(self.name, self.commit)

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a checkpoint of `empathy train`, which scores already."""
        return (Path(self.name) / CHECKPOINT_JSON).is_file()

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return len(self.tokenizer)

    def encoder(self, max_length: int) -> Encoder:
        """Return what turns dialogues into this backbone's token ids."""
        return Encoder(Tokenizer.from_buffer(unspelt(self.tokenizer.backend_tokenizer.to_str())), max_length)


def content_of(name: str, commit: str | None = None) -> str:
    """Return by which bytes a model is known: a hash of its folder's files, or its id on the hub, with the commit."""
    if Path(name).is_dir():
        return folder_hash(Path(name), _FILES)
    return f"{name} {commit}" if commit else name


def load_backbone(name: str, layers: int | None = None) -> Backbone:
    """Return a backbone, by hub id or folder, without loading its weights; TrainError if it cannot be trained.

    ``layers`` is how many of its lowest layers to keep; None is all.
    """
    if (Path(name) / INFO_FILE).is_file():
        raise TrainError(
            f"backbone {name!r}: is a scorer for use, whose weights are exported; give the encoder it was made from"
        )
    here = hub_options(name, TrainError)
    expected = (
        "; expected the id of an encoder on the Hugging Face hub, or a folder with its config.json, weights and "
        "tokenizer.json"
    )
    with loading_as(TrainError, f"backbone {name!r}: cannot be loaded", expected):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **here)
        check_sizes(config)
        tokenizer = tokenizer_of(name, **here)
    if not getattr(tokenizer, "is_fast", False):
        raise TrainError(f"backbone {name!r}: has no fast tokenizer (tokenizer.json), which scoring needs")
    if tokenizer.pad_token_id is None:
        raise TrainError(f"backbone {name!r}: its tokenizer has no padding token; expected an encoder (BERT, RoBERTa)")
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise TrainError(f"layers is {layers}, expected 1 to {config.num_hidden_layers}, which {name} has")
        config.num_hidden_layers = layers
    with loading_as(TrainError, f"backbone {name!r}: cannot score", "; expected an encoder (BERT, RoBERTa)"):
        token, highest = max(tokenizer.get_vocab().items(), key=itemgetter(1))
        if highest >= int(config.vocab_size):
            raise ValueError(f"token {token[:60]!a} has id {highest}, its network {config.vocab_size} vectors")
        positions = int(getattr(config, "max_position_embeddings", None) or 512)
        # RoBERTa counts positions from the padding id + 1, so two of its 514 are never used.
        usable = positions - (tokenizer.pad_token_id + 1 if config.model_type in _POSITIONS_AFTER_PAD else 0)
        with torch.device("meta"):  # counts its parameters without making them
            network = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        return Backbone(
            name=name,
            tokenizer=tokenizer,
            hidden_size=int(config.hidden_size),
            layers=int(config.num_hidden_layers),
            parameters=int(network.num_parameters()),
            pad_id=int(tokenizer.pad_token_id),
            has_token_types=getattr(config, "type_vocab_size", 0) > 1,
            max_length=usable,
            commit=getattr(config, "_commit_hash", None),
        )


def tokenizer_of(name: str | Path, **here: Any) -> Any:
    """Return a model's tokenizer, or raise what transformers does, and ValueError for one that needs its own code.

    Transformers 5 takes a common tokenizer in place of one that it does not know and whose code it may not run.
    """
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **here)
    own = getattr(tokenizer, "init_kwargs", {}).get("auto_map") or {}
    if type(tokenizer) is PreTrainedTokenizerFast and "AutoTokenizer" in own:
        raise ValueError(NEEDS_CODE)
    if not isinstance(tokenizer.model_max_length, int | float):  # transformers 5 fails of it later, at a first text
        raise ValueError(f"model_max_length is {str(tokenizer.model_max_length)[:60]!a}, expected a number")
    return tokenizer


def check_sizes(config: Any) -> None:
    """Raise ValueError for a configuration of more layers or experts than any model has: making them would not end."""
    for name, value in config.to_dict().items():
        if _MANY.search(name) and isinstance(value, (int, float)) and not 0 <= value <= _MOST:
            raise ValueError(f"{name} is {value}, expected at most {_MOST}")


_POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xmod", "data2vec-text")


def load_network(
    name: str | Path,
    layers: int | None = None,
    dropout: float | None = None,
    *,
    allow_pickle: bool = False,
    whole: bool = False,
) -> PreTrainedModel:
    """Return a backbone with a head of two regression outputs; a checkpoint keeps its head.

    ``layers`` is how many of its lowest layers to keep, also in the configuration; None is all. ``dropout`` None is the
    backbone's own. ``allow_pickle`` also loads weights that are not safetensors. One that is ``whole`` has a head.
    TrainError for weights that are missing or no numbers.
    """
    changed: dict[str, Any] = (
        {} if layers is None else {"num_hidden_layers": layers}
    )  # weights of the layers above are passed over
    here = hub_options(name, TrainError)
    if dropout is not None:
        # DistilBERT has other names for both.
        known = AutoConfig.from_pretrained(name, trust_remote_code=False, **here).to_dict()
        changed |= {key: dropout for key in _DROPOUTS if key in known}
    # On a processor the fused attention's backward pass in bfloat16 takes several times as long (measured).
    attention = None if torch.cuda.is_available() else "eager"
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # "some weights are newly initialized": the head is to be trained
    try:
        with loading_as(_UnloadableError, ""):
            check_sizes(AutoConfig.from_pretrained(name, trust_remote_code=False, **here))
            model, found = AutoModelForSequenceClassification.from_pretrained(
                name,
                trust_remote_code=False,
                use_safetensors=None if allow_pickle else True,
                num_labels=len(HEADS),
                problem_type="regression",
                id2label=dict(enumerate(HEADS)),
                label2id={head: index for index, head in enumerate(HEADS)},
                attn_implementation=attention,
                output_loading_info=True,
                **here,
                **changed,
            )
            if whole and (missing := sorted(found["missing_keys"])):
                raise ValueError(f"they lack {missing[0]}")
            check_network(model)
    except _UnloadableError as error:
        lacks = not allow_pickle and "safetensors" in str(error)
        fix = "; if they are a pickle, save them as safetensors, or say --allow-pickle" if lacks else ""
        raise TrainError(f"backbone {str(name)!r}: its weights cannot be loaded{error}{fix}") from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    return model


class _UnloadableError(TrainError):
    """Why weights cannot be loaded."""


@torch.no_grad()
def check_network(model: PreTrainedModel) -> None:
    """Raise ValueError, or what else comes up, for weights that are no numbers and a network that cannot run.

    Of several processes only the first looks: FSDP gives the others their weights later.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" or any(weight.is_meta for weight in model.parameters()):
        return
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"{name} holds what is no number")
    training = model.training
    logits = model.eval()(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device)).logits
    if not torch.isfinite(logits).all():
        raise ValueError("it gives what is no number")
    model.train(training)


def last_linear(model: PreTrainedModel) -> torch.nn.Linear:
    """Return the layer that gives the two scores."""
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == len(HEADS)]
    if len(layers) != 1:
        raise TrainError(f"{type(model).__name__} has {len(layers)} linear layers with 2 outputs, expected 1")
    return layers[0]


@torch.no_grad()
def fold_affine(model: PreTrainedModel, slope: npt.ArrayLike, intercept: npt.ArrayLike) -> None:
    """Make a model emit ``slope * score + intercept``, each of shape (2,), by changing its last layer."""
    last = last_linear(model)
    a = torch.as_tensor(np.asarray(slope), dtype=last.weight.dtype, device=last.weight.device)
    b = torch.as_tensor(np.asarray(intercept), dtype=last.weight.dtype, device=last.weight.device)
    last.weight.mul_(a[:, None])
    last.bias.mul_(a).add_(b)


def depth_of(parameter: str, layers: int, base: str) -> int:
    """Return how deep a parameter lies: 0 the embeddings, 1 to ``layers``, ``layers`` + 1 the head."""
    if found := _LAYER.search(parameter):
        return int(found[1]) + 1
    if not parameter.startswith(f"{base}."):
        return layers + 1
    below = "embed" in parameter or "relative" in parameter or "rel_" in parameter
    return 0 if below else layers + 1  # else a pooler or a last norm


def to_tensors(batch: Sequence[Encoded], pad_id: int, *, types: bool) -> dict[str, torch.Tensor]:
    """Return padded model inputs, each of shape (B, T) with T a multiple of 16."""
    arrays = collate(batch, pad_id, TRAIN_PAD_MULTIPLE)
    return {name: torch.from_numpy(array) for name, array in arrays.items() if types or name != "token_type_ids"}


@torch.inference_mode()
def predict(
    model: PreTrainedModel, encoded: Sequence[Encoded], *, bf16: bool = False, progress: Progress | None = None
) -> Scores:
    """Return the logits of a model (N, 2), which are scores, not clipped; ``progress`` is told the rows done."""
    progress = progress or Silent()
    was_training = model.training
    model.eval()
    types = getattr(model.config, "type_vocab_size", 0) > 1
    pad_id = int(model.config.pad_token_id or 0)
    order = np.argsort([-len(item) for item in encoded], kind="stable")
    scores = np.zeros((len(encoded), len(HEADS)), dtype=np.float32)
    most, start = _PREDICT_TOKENS.get(model.device.type, 8192), 0
    hook = last_linear(model).register_forward_hook(_in_float32)
    while start < len(order):
        size = max(1, most // (len(encoded[order[start]]) + TRAIN_PAD_MULTIPLE))
        rows = order[start : start + size]
        inputs = to_tensors([encoded[row] for row in rows], pad_id, types=types)
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            scores[rows] = model(**inputs).logits.float().cpu().numpy()
        start += len(rows)
        progress.update(start)
    hook.remove()
    model.train(was_training)
    return scores


def _in_float32(last: torch.nn.Linear, given: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
    """Return what a last layer gives (B, 2) unrounded; a bfloat16 score from 4 to 8 is a multiple of 1/32."""
    return (given[0].float()[:, None] * last.weight).sum(dim=-1) + last.bias


def has_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware, and faster than float32 ones."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # AVX512's instructions train 1.7 times as fast as float32 (EPYC of Zen 4, MiniLM-L6 and mpnet-base).
    return bool(cpu_features() & {"amx_bf16", "avx512_bf16"})


def keep_freed_memory() -> None:
    """Tell glibc to keep what tensors free, as each training step allocates the same again.

    By default every large tensor is a mapping of its own, zeroed page by page at each step. Tensors of more than 32
    MiB stay so, and what is free at the end of the heap beyond 128 MiB goes back: else memory only grows.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)
