"""What this machine multiplies with: processors of one kind give one verdict on a precision."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

GPU = "NVIDIA GPU"
"""The kind of every GPU that runs CUDA."""

NATIVE_BF16 = frozenset({"x86-64 with AMX", "x86-64 with AVX512-BF16"})
"""Kinds that multiply bf16 in hardware and add up in fp32, so that they differ in the order of the sums alone."""

_BEST = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX512-BF16",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512",
    "avx2": "AVX2",
    "i8mm": "I8MM",
    "asimddp": "dot products",
}
"""What multiplies in hardware, by Linux's names, the best first: it decides which kernels the engines take."""

_FAMILIES = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm", "arm64": "arm"}
_SHOWN = {"x86": "x86-64", "arm": "Arm"}


@cache
def cpu_features() -> frozenset[str]:
    """Return what this processor multiplies fast in hardware, by Linux's names, and its family, ``x86`` or ``arm``.

    Other systems do not say what it has, so there it counts as a processor without any.
    """
    family = {_FAMILIES[name]} if (name := platform.machine().lower()) in _FAMILIES else set()
    lines = _cpuinfo()
    flags = next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    if any(line.endswith("GenuineIntel") for line in lines) and "amx_bf16" not in flags:
        flags -= {"avx512_bf16"}  # half as fast as fp32 there (measured); AMD's is twice as fast
    return frozenset(family | _BEST.keys() & flags)


def processor_kind(features: frozenset[str] | None = None) -> str:
    """Return the kind of a processor with these features, None for the one at hand: "x86-64 with AVX2"."""
    features = cpu_features() if features is None else features
    family = next((shown for name, shown in _SHOWN.items() if name in features), "another processor")
    best = next((shown for name, shown in _BEST.items() if name in features), "")
    return f"{family} with {best}" if best else family


def processor_name() -> str:
    """Return what the maker calls this processor."""
    names = (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name"))
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
