"""Where a model lies that others made: in a folder, in the hub's cache here, or on a hub that answers."""

from __future__ import annotations

from pathlib import Path

from scorer.errors import EmpathyError
from scorer.hub.fetch import unreachable


def hub_options(name: str | Path, error: type[EmpathyError]) -> dict[str, bool]:
    """Return how transformers may look for a model: here alone where the hub does not answer.

    ``error`` is raised within two seconds for a name that is no folder and no id, and for an id that neither the hub's
    cache here nor the hub can give: transformers itself tries for half a minute.
    """
    if Path(name).is_dir():
        return {}
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(str(name), "config.json")
    except HFValidationError:
        raise error(f"{str(name)!r}: no such folder, and no id of a model on the hub") from None
    if not (why := unreachable()):
        return {}
    if not isinstance(cached, str):
        raise error(f"{str(name)!r}: no such folder here, not in the hub's cache, and {why}")
    return {"local_files_only": True}
