"""`empathy push`: a scorer -> a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from scorer.cli import options as opt
from scorer.cli.streams import say


@opt.command(
    examples=(
        "empathy push my-scorer user/my-scorer",
        "empathy push my-scorer user/my-scorer --public --base-model microsoft/deberta-v3-small",
    )
)
@opt.argument("bundle", metavar="BUNDLE", type=opt.SCORER, help="The scorer's folder.")
@opt.argument("repository", metavar="USER/REPO", help="Where it goes; made if it is not there.")
@opt.option_group(
    "Repository",
    opt.option("--public", is_flag=True, help="Let everybody read a new repository.  [default: only you]"),
    opt.option("--message", metavar="TEXT", help="What the commit says.  [default: the scorer's name and hash]"),
)
@opt.option_group(
    "Card",
    opt.option("--base-model", metavar="NAME", help="The backbone on the hub.  [default: as in scorer.json]"),
    opt.option("--dataset", "datasets", metavar="NAME", multiple=True, help="Its data on the hub; may be repeated."),
)
def push(
    bundle: Path,
    repository: str,
    base_model: str | None,
    datasets: tuple[str, ...],
    message: str | None,
    *,
    public: bool,
) -> None:
    """Publish a scorer on the Hugging Face hub.

    BUNDLE is verified and tried out first. Its files and a card with what the hub reads of it (licence, data, figures)
    become one commit. `--scorer USER/REPO` then uses it anywhere. The token comes from HF_TOKEN or `hf auth login`.

    Exit codes: 0 done, 2 usage or file error, or the hub did not take it.
    """
    from scorer.bundle.trial import open_bundle
    from scorer.errors import BundleError
    from scorer.hub.names import endpoint, repository_name
    from scorer.hub.push import push_bundle

    name = repository_name(repository)
    if name is None:
        raise BundleError(f"{repository}: is no repository of the hub, expected USER/REPO")
    loaded = open_bundle(bundle)
    done = push_bundle(loaded, name, public=public, base_model=base_model, datasets=datasets, message=message)
    say(f"{loaded.info.name} {loaded.sha256[:12]} is on {endpoint()}/{done.repo}; use it with --scorer {done}")
