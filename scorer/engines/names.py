"""What engines and precisions are called, and the largest batch: light, so that commands read it without numpy."""

from __future__ import annotations

ON_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt")
"""The engines that need an NVIDIA GPU."""

ENGINE_NAMES = ("onnxruntime", *ON_GPU, "openvino")
"""Every engine, as it is called on the command line and beside the scores."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""What a scorer can compute in; fp32 is always allowed, the others where the bundle's gate let them pass."""

BATCH_SIZE = 256
"""Dialogues per batch, at most."""
