"""Which engine runs a bundle, and in which precision: an engine by its name, and the rule of ``auto``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from scorer.bundle.bundle import HALF_MODEL, Bundle
from scorer.engines.base import Engine
from scorer.engines.machine import cpu_features, processor_kind
from scorer.engines.names import DROPPED_PRECISIONS, ENGINE_NAMES, INT8_DYNAMIC, ON_GPU, PRECISIONS
from scorer.engines.onnxruntime import OnnxRuntimeEngine
from scorer.engines.openvino import OpenVinoEngine
from scorer.engines.verdicts import fastest
from scorer.errors import EngineError

_ONLY_IN = {"bf16": "openvino", INT8_DYNAMIC: "openvino", "fp16": "onnxruntime-cuda"}
"""The engine that computes in a precision which not all of them have."""


def make_engine(name: str, bundle: Bundle, threads: int | None = None, precision: str | None = None) -> Engine:
    """Return the engine of that name; ``auto`` is the one that ``choose`` takes here.

    ``precision`` None is the fastest that the engine has here and a gate let pass. EngineError if the engine is not
    known or not installed, or cannot compute in that precision faithfully.
    """
    if name != "auto" and name not in ENGINE_NAMES:
        raise EngineError(f"engine {name!r} is not known, expected auto or one of {', '.join(ENGINE_NAMES)}")
    if precision in DROPPED_PRECISIONS:
        raise EngineError(f"precision {precision} is no more: {DROPPED_PRECISIONS[precision]}")
    if precision is not None and precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r} is not known, expected one of {', '.join(PRECISIONS)}")
    if precision not in (None, "fp32") and not (verdict := bundle.verdict(str(precision))).allowed:
        fix = "use fp32 or export it again" if verdict.measured else "use fp32 until then"
        raise EngineError(f"{bundle.path}: may not score in {precision} ({verdict.reason}); {fix}")
    if name != "auto":
        return _start(name, bundle, threads, precision or _best_of(name, bundle))
    notice = ""
    if cuda_provider_installed():
        try:
            return _start("onnxruntime-cuda", bundle, threads, precision or _best_of("onnxruntime-cuda", bundle))
        except EngineError as error:  # the library for a GPU is there, and no GPU: say so and score
            notice = str(error)
    chosen, best = choose(bundle, openvino=find_spec("openvino") is not None, features=cpu_features())
    if precision is not None and precision != best:
        chosen = _ONLY_IN.get(precision, chosen)
    engine = _start(chosen, bundle, threads, precision or best)
    engine.notice = engine.notice or notice
    return engine


def started_again(engine: Engine, bundle: Bundle) -> Engine:
    """Return an engine that computes what another one did in the process that this one was forked from."""
    again = make_engine(engine.name, bundle, engine.threads, engine.precision)
    again.notice = again.notice or engine.notice
    return again


def choose(bundle: Bundle, *, openvino: bool, features: frozenset[str]) -> tuple[str, str]:
    """Return the engine and precision of ``auto`` on a processor: the fastest whose scores the bundle vouches for.

    Where `empathy gate` measured the engines that are installed on a processor of this kind, the fastest that passed.
    Else, of what passed a gate:

    1. OpenVINO in bf16, where it is installed and the processor multiplies bf16 fast (AMX, or AVX512-BF16 of an AMD).
    2. OpenVINO in int8-dynamic, where it is installed and the processor has VNNI.
    3. OpenVINO in fp32, where it is installed and the processor has AVX512. With AVX2 alone ONNX Runtime is faster.
    4. ONNX Runtime in fp32.
    """
    kind = processor_kind(features)
    installed = ("onnxruntime", "openvino") if openvino else ("onnxruntime",)
    if measured := fastest(bundle.info.gates, kind, installed):
        return measured
    if openvino and (best := _by_features(bundle, features, kind)) != "fp32":
        return "openvino", best
    return ("openvino" if openvino and "avx512f" in features else "onnxruntime"), "fp32"


def _by_features(bundle: Bundle, features: frozenset[str], kind: str) -> str:
    """Return the fastest precision of OpenVINO that a gate let pass on a kind of processor."""
    if features & {"amx_bf16", "avx512_bf16"} and bundle.verdict("bf16", kind).allowed:
        return "bf16"
    if features & {"avx512_vnni", "avx_vnni"} and bundle.verdict(INT8_DYNAMIC, kind).allowed:
        return INT8_DYNAMIC
    return "fp32"


def _best_of(name: str, bundle: Bundle) -> str:
    """Return the fastest precision of one engine here, of those that a gate let pass."""
    if name in ON_GPU:
        return "fp16" if HALF_MODEL in bundle.files and bundle.allows("fp16") else "fp32"
    if name != "openvino":
        return "fp32"
    kind = processor_kind()
    rows = [row for row in bundle.info.gates if row.engine == name]
    measured = fastest(rows, kind, (name,))
    return measured[1] if measured else _by_features(bundle, cpu_features(), kind)


def _start(name: str, bundle: Bundle, threads: int | None, precision: str | None) -> Engine:
    if name == "openvino":
        return OpenVinoEngine(bundle, threads, precision)
    return OnnxRuntimeEngine(bundle, threads, precision, name)


def cuda_provider_installed() -> bool:
    """Whether ONNX Runtime's library for CUDA is there. To import it only for asking would slow every start."""
    found = find_spec("onnxruntime")
    folders = (found.submodule_search_locations or []) if found else []
    return any(any(Path(folder, "capi").glob("*onnxruntime_providers_cuda*")) for folder in folders)
