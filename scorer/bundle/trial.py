"""Try a scorer out before it runs: load it and score a first batch in a process of its own, within a time and memory.

What a file says can be checked (`onnx_check`, `tokenizer.check`); how much work that comes to shows only when it is
done, inside libraries that nothing can interrupt but the end of their process. A bundle that passed is remembered by
its hash in the user's cache folder and not tried again; where nothing can be written there, it is at every start.
"""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from scorer.bundle.bundle import STARTER_SHA256, Bundle, load_bundle
from scorer.bundle.cache import cache_folder, is_mine
from scorer.child import own_python
from scorer.errors import BundleError, EmpathyError

SECONDS = 120
"""How long loading and the first batch of a bundle may take; most take two seconds."""

_VERSION = b"1"
"""What a trial is. A new number tries every bundle again."""

_REFUSED = 3
_MEGABYTE = 1 << 20
_MEMORY = 8 << 30
_MEMORY_PER_BYTE = 12
_SAMPLES = (
    "I lost my job today. I don't know what to say to my children!",
    "Über uns: café – “naïve” … Здравствуй 你好，世界 مرحبا नमस्ते 한국어 😢👍🏽",
    "".join(map(chr, range(32, 127))),
)
_MOST_GROWTH = 4
"""How much longer a normalised text may be: Korean letters come apart into three, and a byte may be a letter."""


def open_bundle(path: Path | str | None = None) -> Bundle:
    """Return the verified bundle in a folder, tried out, the starter for None; BundleError says what is wrong."""
    bundle = load_bundle(path)
    try_out(bundle)
    return bundle


def try_out(bundle: Bundle, *, seconds: float = SECONDS) -> None:
    """Return once a bundle has loaded and scored a batch, in a process of its own or on this machine before.

    BundleError says what came out instead. The process ends with this one's interest in it, whatever it does.
    """
    if bundle.sha256 == STARTER_SHA256 or _remembered(bundle):
        return
    command, environment = own_python("scorer.bundle.trial", str(bundle.path), bundle.sha256, str(seconds))
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    try:
        done = subprocess.run(  # noqa: S603 - this Python
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired:  # it was killed
        what = f"did not load and score a first batch within {seconds:g} seconds"
        raise BundleError(f"{bundle.path}: {what}; it was stopped, do not use it") from None
    except OSError as error:
        why = error.strerror or error
        raise BundleError(f"{bundle.path}: no process could be started to try it out ({why})") from None
    if done.returncode == _REFUSED:
        raise BundleError(done.stdout.decode(errors="replace").strip())
    if done.returncode:
        ended = done.returncode
        how = signal.Signals(-ended).name if ended < 0 else f"exit status {ended}"
        what = f"ended the process that loaded it and scored a first batch ({how})"
        raise BundleError(f"{bundle.path}: {what}, expected scores; do not use it")
    _remember(bundle)


def _record(bundle: Bundle) -> Path:
    """Return the file that says that a bundle was tried out; RuntimeError where there is no home."""
    return cache_folder() / "tried" / sha256(_VERSION + bundle.sha256.encode()).hexdigest()


def _remembered(bundle: Bundle) -> bool:
    """Whether this user tried a bundle out; what somebody else left there does not count."""
    try:
        found = _record(bundle).lstat()
    except (OSError, RuntimeError):
        return False
    return stat.S_ISREG(found.st_mode) and is_mine(found)


def _remember(bundle: Bundle) -> None:
    with suppress(OSError, RuntimeError):  # then it is tried again
        path = _record(bundle)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)


def _limit(bundle_bytes: int, seconds: float) -> None:
    """End this process by the system's means: nothing in it can be trusted to come back."""
    if not hasattr(signal, "alarm"):
        return
    import resource

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + 2)  # the other one kills it before, unless that was killed itself
    with suppress(ValueError, OSError):  # a lower limit is there already
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # elsewhere it counts what is no memory
            most = _MEMORY + _MEMORY_PER_BYTE * bundle_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _score(bundle: Bundle) -> None:
    """Load a bundle as scoring does, and score three dialogues and the longest one that it may get."""
    import numpy as np

    from scorer.bundle.encode import Encoded, Encoder
    from scorer.dialogue import Dialogue, Turn
    from scorer.engines.base import collate
    from scorer.engines.onnxruntime import OnnxRuntimeEngine

    encoder = Encoder(bundle.tokenizer, bundle.info.max_length)
    highest = max(bundle.tokenizer.get_vocab().values())
    _check_growth(bundle)
    turns = [(Turn("user", text), Turn("assistant", text)) for text in _SAMPLES]
    ordinary = encoder.encode([Dialogue(id="", turns=pair, conversation="") for pair in turns])
    longest = np.full(bundle.info.max_length, bundle.info.pad_id, dtype=np.int32)
    longest[: len(ordinary[0].ids)] = ordinary[0].ids[: len(longest)]
    longest[-1] = highest
    batches = [ordinary, [Encoded(ids=longest, first_segment=len(longest) // 2)]]
    for precision in ("fp32", "fp16"):
        if bundle.model_file(precision) not in bundle.files:
            continue
        try:
            engine = OnnxRuntimeEngine(bundle, threads=1, precision=precision)
            for batch in batches:
                engine.run(collate(batch, bundle.info.pad_id))
        except EmpathyError:
            if precision == "fp32":  # the other one may want another processor than this one
                raise


def _check_growth(bundle: Bundle) -> None:
    normalizer = bundle.tokenizer.normalizer
    for text in () if normalizer is None else _SAMPLES:
        grown = len(normalizer.normalize_str(text))
        if grown > _MOST_GROWTH * len(text):
            where = bundle.path / "tokenizer.json"
            what = f"its normalizer makes {grown} characters of {len(text)}, expected at most {_MOST_GROWTH} of one"
            raise BundleError(f"{where}: no tokenizer of a scorer ({what})")


def _main(folder: str, expected: str, seconds: str) -> int:
    bundle = None
    try:
        bundle = load_bundle(folder)
        if bundle.sha256 != expected:
            raise BundleError(f"{folder}: was changed while it was loaded; try again")
        _limit(sum(map(len, bundle.files.values())), float(seconds))
        _score(bundle)
    except EmpathyError as error:
        text = str(error)
        sys.stdout.write(text if text.startswith(folder) else f"{folder}: {text}")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
