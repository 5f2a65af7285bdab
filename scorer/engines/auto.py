"""Which engine runs a bundle, and in which precision: an engine by its name, and the rule of ``auto``."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

from scorer.bundle.bundle import Bundle
from scorer.engines.base import Engine
from scorer.engines.names import ENGINE_NAMES, PRECISIONS
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.engines.openvino import OpenVinoEngine
from scorer.errors import EngineError

_ONLY_IN = {"bf16": "openvino", "int8": "onnxruntime", "fp16": "onnxruntime-cuda"}
"""The engine that computes in a precision which not all of them have."""

_FEATURES = {"amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni"}


def make_engine(name: str, bundle: Bundle, threads: int | None = None, precision: str | None = None) -> Engine:
    """Return the engine of that name; ``auto`` is the one that ``choose`` takes here.

    ``precision`` None is the fastest that the engine has here and the bundle's gate let pass. EngineError if the
    engine is not known or not installed, or cannot compute in that precision faithfully.
    """
    if name != "auto" and name not in ENGINE_NAMES:
        raise EngineError(f"engine {name!r} is not known, expected auto or one of {', '.join(ENGINE_NAMES)}")
    if precision is not None and precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r} is not known, expected one of {', '.join(PRECISIONS)}")
    if precision is not None and not bundle.allows(precision):
        verdict = bundle.info.precisions.get(precision)
        reason = verdict.reason if verdict else "its export did not check it"
        raise EngineError(f"{bundle.path}: may not score in {precision} ({reason}); use fp32 or export it again")
    if name != "auto":
        return _start(name, bundle, threads, precision)
    notice = ""
    if _cuda_provider_installed():
        try:
            return _start("onnxruntime-cuda", bundle, threads, precision)
        except EngineError as error:  # the library for a GPU is there, and no GPU: say so and score
            notice = str(error)
    chosen, fastest = choose(bundle, openvino=find_spec("openvino") is not None, features=cpu_features())
    if precision is not None and precision != fastest:
        chosen = _ONLY_IN.get(precision, chosen)
    engine = _start(chosen, bundle, threads, precision or fastest)
    engine.notice = engine.notice or notice
    return engine


def started_again(engine: Engine, bundle: Bundle) -> Engine:
    """Return an engine that computes what another one did in the process that this one was forked from."""
    again = make_engine(engine.name, bundle, engine.threads, engine.precision)
    again.notice = again.notice or engine.notice
    return again


def choose(bundle: Bundle, *, openvino: bool, features: frozenset[str]) -> tuple[str, str]:
    """Return the engine and precision of ``auto`` on a processor: the fastest whose scores the bundle vouches for.

    1. OpenVINO in bf16, where it is installed, the processor multiplies bf16 (AMX or AVX512-BF16), and the bundle's
       gate let bf16 pass.
    2. ONNX Runtime in int8, where the processor has VNNI and the gate let int8 pass.
    3. OpenVINO in fp32, where it is installed and the processor is an x86: twice ONNX Runtime's rate there.
    4. ONNX Runtime in fp32.
    """
    if openvino and features & {"amx_bf16", "avx512_bf16"} and bundle.allows("bf16"):
        return "openvino", "bf16"
    if features & {"avx512_vnni", "avx_vnni"} and bundle.allows("int8"):
        return "onnxruntime", "int8"
    return ("openvino" if openvino and "x86" in features else "onnxruntime"), "fp32"


def cpu_features() -> frozenset[str]:
    """Return what this processor multiplies in hardware, by Linux's names, and ``x86`` if it is one.

    Other systems do not say, so there it counts as a processor without any.
    """
    family = {"x86"} if platform.machine().lower() in ("x86_64", "amd64") else set()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return frozenset(family | _FEATURES.intersection(flags))


def _start(name: str, bundle: Bundle, threads: int | None, precision: str | None) -> Engine:
    if name == "openvino":
        return OpenVinoEngine(bundle, threads, precision)
    return OnnxRuntimeEngine(bundle, threads, precision, name)


def _cuda_provider_installed() -> bool:
    """Whether ONNX Runtime's library for CUDA is there. To import it only for asking would slow every start."""
    found = find_spec("onnxruntime")
    folders = (found.submodule_search_locations or []) if found else []
    return any(any(Path(folder, "capi").glob("*onnxruntime_providers_cuda*")) for folder in folders)
