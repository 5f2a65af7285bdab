"""Models that others made or will load: where they lie, and files that every version of transformers reads alike."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scorer.bundle.tokenizer.spelling import with_spelling
from scorer.errors import EmpathyError
from scorer.hub.fetch import unreachable
from scorer.outputs import json_text, write_json

GENERIC = "PreTrainedTokenizerFast"
"""The class that reads tokenizer.json as it is; transformers 5 calls it TokenizersBackend and knows this name too."""

RAW_SCORES = {"activation_fn": "torch.nn.modules.linear.Identity"}
"""What sentence-transformers finds in config.json: a CrossEncoder gives the logits, which are scores."""


def hub_options(name: str | Path, error: type[EmpathyError]) -> dict[str, bool]:
    """Return how transformers may look for a model: here alone where the hub does not answer.

    ``error`` is raised within two seconds for a name that is no folder and no id, and for an id that neither the hub's
    cache here nor the hub can give: transformers itself tries for half a minute. ModuleNotFoundError without that.
    """
    if find_spec("transformers") is None:  # what is missing here comes before what the hub lacks
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
    if Path(name).is_dir():
        return {}
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(str(name), "config.json")
    except HFValidationError:
        raise error(
            f"{str(name)!r}: no such folder, and no id of a model on the hub; expected a folder with config.json, "
            "weights and tokenizer, or an id such as FacebookAI/roberta-base"
        ) from None
    if not (why := unreachable()):
        return {}
    if not isinstance(cached, str):
        raise error(f"{str(name)!r}: no such folder here, not in the hub's cache, and {why}")
    return {"local_files_only": True}


def quiet_transformers() -> None:
    """Keep notices and bars of transformers and peft off the terminal but a download's: commands show their own."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    enable_progress_bars()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft, of transformers
    warnings.filterwarnings("ignore", "The PEFT config's `base_model_name_or_path` was renamed", UserWarning)


def tokenizer_files(tokenizer: Any, max_length: int, *, token_types: bool) -> dict[str, bytes]:
    """Return the files of a scorer's tokenizer by name; it spells a text before it tokenises it.

    Its class is the generic one: those of a kind of model build their own normalizer and pass over that of the file.
    """
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    special = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    config = {
        "clean_up_tokenization_spaces": False,
        "model_input_names": names,
        "model_max_length": max_length,
        "tokenizer_class": GENERIC,
        **special,
    }
    return {
        "tokenizer.json": with_spelling(tokenizer.backend_tokenizer.to_str()),
        "tokenizer_config.json": json_text(config).encode(),
        "special_tokens_map.json": json_text(special).encode(),
    }


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a causal model's tokenizer; transformers 4 reads what 5 saves, which names two things in other ways."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = GENERIC
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    write_json(path, config)
