"""A scorer on the hub -> a bundle here, once: nothing but the files that its scorer.json lists, verified, nothing run.

They lie in the user's cache folder, by the hub's address, repository and commit. They are downloaded beside that place
and move there whole and only once they are verified, as real files and no links. A commit that is there needs no
network; a branch is looked up, once in a process.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from scorer.bundle.bundle import INFO_FILE, Bundle, listed_files, load_bundle, most_bytes
from scorer.bundle.cache import cache_folder, is_mine
from scorer.errors import BundleError, printable, reason_of
from scorer.hub.card import CARD, without_header
from scorer.hub.names import HubName, endpoint, is_commit

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REACH_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}
_UNFINISHED = ".unfinished-"
_STALE_SECONDS = 86400.0


def fetch(name: HubName) -> Bundle:
    """Return the verified bundle in a repository of the hub; BundleError says in one line why there is none."""
    commit = str(name.revision) if is_commit(name.revision) else _resolved(name, endpoint())
    try:
        folder = _place(name.repo) / commit
        if folder.is_dir() and is_mine(folder.lstat()):
            with suppress(BundleError):  # a power cut may have left anything: then it is downloaded again
                return load_bundle(folder)
            shutil.rmtree(folder)
        return _downloaded(name, commit, folder)
    except OSError as error:
        raise BundleError(
            f"{name}: cannot be kept in the cache folder ({reason_of(error)}); set XDG_CACHE_HOME"
        ) from None
    except RuntimeError:
        raise BundleError(f"{name}: there is no home folder to keep it in; set XDG_CACHE_HOME") from None


@lru_cache(maxsize=64)  # so that all parts of a run mean one commit
def _resolved(name: HubName, _endpoint: str) -> str:
    return str(_asked(name).sha)


def _asked(name: HubName) -> Any:
    """Return what the hub says of a repository at a revision: its commit, and its files with their sizes."""
    check_reachable(name)
    with hub_faults(name):
        found = hub().model_info(name.repo, revision=name.revision, files_metadata=True, timeout=_ANSWER_SECONDS)
    if not is_commit(found.sha) or (is_commit(name.revision) and found.sha != name.revision):
        raise BundleError(f"{name}: the hub answered with commit {found.sha!a:.60}, expected 40 hex digits of its own")
    return found


def _downloaded(name: HubName, commit: str, folder: Path) -> Bundle:
    pinned = HubName(name.repo, commit)
    sizes = {file.rfilename: file.size for file in _asked(pinned).siblings or ()}
    if INFO_FILE not in sizes:
        raise BundleError(f"{name}: holds no {INFO_FILE}, so it is no scorer (`empathy push` publishes one)")
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_UNFINISHED) as temporary:
        loads, work = Path(temporary) / "loads", Path(temporary) / "bundle"
        work.mkdir()
        hashes = listed_files(_get(pinned, INFO_FILE, sizes, loads, work), str(name))
        if missing := sorted(file for file in hashes if file not in sizes):
            raise BundleError(f"{name}: lacks {missing[0]!a}, which its {INFO_FILE} lists; push the bundle again")
        for file, expected in hashes.items():
            raw = _get(pinned, file, sizes, loads, work)
            if file == CARD and sha256(raw).hexdigest() != expected:
                (work / file).write_bytes(without_header(raw))  # the hub's card has a header before the bundle's
        bundle = _loaded(name, work)
        with suppress(OSError):  # another process was faster: what it has is the same
            work.rename(folder)
    return replace(bundle, path=folder)


def _loaded(name: HubName, work: Path) -> Bundle:
    try:
        return load_bundle(work)
    except BundleError as error:  # in what was downloaded there is no folder that a user knows
        raise BundleError(str(error).replace(str(work), str(name))) from None


def _get(name: HubName, file: str, sizes: dict[str, int | None], loads: Path, work: Path) -> bytes:
    """Download one file, and return it; what it may weigh is known before."""
    if (size := sizes[file]) is None or size > most_bytes(file):
        raise BundleError(f"{name}: {file!a} has {size} bytes, expected at most {most_bytes(file):,}")
    with hub_faults(name):
        found = hub().hf_hub_download(name.repo, file, revision=name.revision, local_dir=loads)
    Path(found).rename(work / file)
    return (work / file).read_bytes()


def _place(repo: str) -> Path:
    """Return the folder of a repository's commits."""
    host = re.sub(r"[^\w.-]", "_", urlsplit(endpoint()).netloc.rpartition("@")[2])
    return cache_folder() / "hub" / host / repo.replace("/", "--")


def _clear(folder: Path) -> None:
    """Remove what killed downloads left a day ago and before."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path)


def hub() -> HfApi:
    """Return the client of the hub, that of HF_ENDPOINT or the public one; it knows the token by itself."""
    from huggingface_hub import HfApi  # 300 ms that only the hub costs

    return HfApi(endpoint=endpoint(), library_name="empathy-scorer")


@contextmanager
def hub_faults(name: HubName) -> Iterator[None]:
    """Turn what the hub's client raises into one line: BundleError. No token is in it; nothing is logged or warned of.

    What this disk does not take stays an OSError. All else is the hub's, whose strange answers raise anything.
    """
    log = logging.getLogger("huggingface_hub")
    before = log.level
    log.setLevel(logging.CRITICAL)  # each of its retries would be two lines, with what the server says
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            yield
    except BundleError:
        raise
    except Exception as error:  # such as a KeyError, of an answer without an id; HTTP's own differ by version
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise BundleError(f"{name}: {_said(error, name)}") from None
    finally:
        log.setLevel(before)


def _said(error: Exception, name: HubName) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    where = endpoint()
    if "GatedRepoError" in kinds:
        return f"its owner on {where} must grant you access first; set HF_TOKEN to a token that has it"
    if "RepositoryNotFoundError" in kinds:
        return f"no such folder, and no repository that you may read on {where} (HF_TOKEN names you there)"
    if "RevisionNotFoundError" in kinds:
        return f"the repository on {where} has no revision {name.revision}; name a branch, tag or whole commit hash"
    if "OfflineModeIsEnabled" in kinds:
        return _offline(name, "HF_HUB_OFFLINE is set")
    return f"{where} did not give it ({_without_token(error)})"


def _without_token(error: Exception) -> str:
    from huggingface_hub import get_token

    said: BaseException = error
    while said.__cause__ is not None and not _speaks(said):  # the outermost only says that there was an error
        said = said.__cause__
    text = " ".join(str(said).split())
    for secret in filter(None, (get_token(), os.environ.get("HF_TOKEN"))):
        text = text.replace(secret, "***")
    return printable(text[:300]) or type(said).__name__


def _speaks(error: BaseException) -> bool:
    """Whether an error holds what the hub itself said."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "HfHubHTTPError" in kinds and "LocalEntryNotFoundError" not in kinds


def check_reachable(name: HubName) -> None:
    """Raise BundleError within two seconds where the hub, or the proxy before it, takes no connection."""
    if why := unreachable():
        raise BundleError(f"{name}: {_offline(name, why)}")


def unreachable() -> str:
    """Return within two seconds why the hub, or the proxy before it, takes no connection; empty where it does."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    url = urlsplit(endpoint())
    proxy = getproxies().get(url.scheme)
    if proxy and url.hostname and not proxy_bypass(url.hostname):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    faults: list[str] = ["no answer within two seconds"]

    def connect() -> None:
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
            socket.create_connection((url.hostname or "", port), timeout=_REACH_SECONDS).close()
            faults.clear()
        except (OSError, ValueError) as error:
            faults[:] = [reason_of(error)]

    # The system looks names up for as long as it likes, and nothing stops it.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS)
    return f"{endpoint()} cannot be reached: {faults[0]}" if faults else ""


def _offline(name: HubName, why: str) -> str:
    """Return why a scorer cannot be had now, and which commits of it can."""
    known: list[Path] = []
    with suppress(OSError, RuntimeError):
        known = [path for path in _place(name.repo).iterdir() if is_commit(path.name)]
    if not known:
        return f"no such folder here, and {why}"
    newest = max(known, key=lambda path: path.lstat().st_mtime)
    return f"{why}; downloaded before and usable without: {HubName(name.repo, newest.name)}"
