"""A bundle -> a repository of the hub: its files and its card, in one commit."""

from __future__ import annotations

from collections.abc import Sequence

from scorer.bundle.bundle import Bundle
from scorer.errors import BundleError
from scorer.hub.card import CARD, card_of
from scorer.hub.fetch import check_reachable, hub, hub_faults
from scorer.hub.names import HubName, endpoint, is_commit


def push_bundle(
    bundle: Bundle,
    name: HubName,
    *,
    public: bool = False,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    message: str | None = None,
) -> HubName:
    """Publish a verified bundle, and return where: user/repo@commit. A new repository is private unless ``public``.

    ``base_model`` and ``datasets`` are as in ``card_of``. BundleError where the hub does not take it; the token comes
    from HF_TOKEN or `hf auth login`, and is in no line.
    """
    from huggingface_hub import CommitOperationAdd, get_token

    if name.revision is not None:
        raise BundleError(f"{name}: a push makes a commit of its own; name {name.repo}")
    if not get_token():
        raise BundleError(f"{name}: {endpoint()} asks who you are; set HF_TOKEN or run `hf auth login`")
    check_reachable(name)
    files = {**bundle.files, CARD: card_of(bundle, base_model=base_model, datasets=datasets)}
    with hub_faults(name):
        api = hub()
        api.create_repo(name.repo, private=not public, exist_ok=True)
        done = api.create_commit(
            name.repo,
            [CommitOperationAdd(path_in_repo=file, path_or_fileobj=data) for file, data in sorted(files.items())],
            commit_message=message or f"{bundle.info.name} {bundle.sha256[:12]}",
        )
    if not is_commit(done.oid):
        raise BundleError(f"{name}: the hub answered with commit {done.oid!a:.60}, expected 40 hex digits")
    return HubName(name.repo, done.oid)
