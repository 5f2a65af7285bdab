"""What engines and precisions are called, and the largest batch: light, so that commands read it without numpy."""

from __future__ import annotations

ON_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt")
"""The engines that need an NVIDIA GPU."""

ENGINE_NAMES = ("onnxruntime", *ON_GPU, "openvino")
"""Every engine, as it is called on the command line and beside the scores."""

INT8_DYNAMIC = "int8-dynamic"
"""Weights as int8 and activations rounded to int8 by row and group, each as it comes: no scale over a batch."""

PRECISIONS = ("fp32", "bf16", "fp16", INT8_DYNAMIC)
"""What a scorer can compute in; fp32 is always allowed, the others where the bundle's gate let them pass."""

DROPPED_PRECISIONS = {"int8": f"its fixed scales changed too many decisions; take fp32 or {INT8_DYNAMIC}"}
"""What earlier releases had, and why this one has it not."""

BATCH_SIZE = 256
"""Dialogues per batch, at most."""
