"""ONNX Runtime: the engine of the base install, on the processor; on an NVIDIA GPU through CUDA or TensorRT."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from scorer.engines.base import PAD_MULTIPLE, Inputs, Network, Scores, available_cores, checked, failing_as
from scorer.engines.forks import survive_forks
from scorer.engines.names import INT8_DYNAMIC, ON_GPU
from scorer.errors import BundleError, EngineError, reason_of

if TYPE_CHECKING:
    import onnxruntime as ort

_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_FLOATS = {"tensor(float)", "tensor(float16)", "tensor(double)"}
_PROVIDERS = dict(zip(ON_GPU, ("CUDAExecutionProvider", "TensorrtExecutionProvider"), strict=True))
_GPU_BATCH_TOKENS = 1 << 15
_TENSORRT_TYPICAL = "64x64"


class OnnxRuntimeEngine:
    """ONNX Runtime with one of its providers; all others are compared with its scores on the processor in fp32."""

    def __init__(
        self, bundle: Network, threads: int | None = None, precision: str | None = None, name: str = "onnxruntime"
    ) -> None:
        """Load the model of a bundle, in ``fp32`` (None is that) or ``fp16``; ``threads`` None is one per core.

        ``name`` says the provider. EngineError if that is not installed or does not start; BundleError if the bundle
        has no such model.
        """
        import onnxruntime as ort  # not needed to read corpora or cards

        on_gpu = name in ON_GPU
        if precision in ("bf16", INT8_DYNAMIC):
            raise EngineError(f"ONNX Runtime does not compute in {precision} here; take --engine openvino, or fp32")
        self.name = name
        self.precision = precision or "fp32"
        self._columns = bundle.columns
        self.threads = threads or available_cores()
        self.notice = ""
        self.pad_multiple = PAD_MULTIPLE
        # On the processor one batch fills all cores. A GPU waits less if the next batch is on its way.
        self._at_once, self.batch_tokens = (2, _GPU_BATCH_TOKENS) if on_gpu else (1, 1024)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions, and are reported once
        # Lengths vary from batch to batch: planning memory for each shape makes it grow (onnxruntime issue 11118).
        options.enable_mem_pattern = False
        # Weights stored as int8 become floats at load; activations are never quantised.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._faults = onnxruntime_faults()
        self._model_path = bundle.path / bundle.model_file(self.precision)
        self._session = self._start(bundle, options)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._output = self._checked_output()
        survive_forks(self)

    def run(self, inputs: Inputs) -> Scores:
        """Return the raw outputs (B, 2) for input arrays (B, T); EngineError if the model fails."""
        shape = inputs["input_ids"].shape
        binding = self._session.io_binding()  # inputs and outputs cross to the device once, whatever the provider does
        with failing_as("ONNX Runtime", self._faults, shape):
            for name in self._inputs:
                binding.bind_cpu_input(name, inputs[name])
            binding.bind_output(self._output)
            self._session.run_with_iobinding(binding)
            (scores,) = binding.copy_outputs_to_cpu()
        return checked(scores, shape[0], self._columns)

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        """Yield the outputs of each batch in turn; on a GPU two run at once."""
        if self._at_once == 1:
            yield from map(self.run, batches)
            return
        with ThreadPoolExecutor(self._at_once) as pool:
            running: deque[Future[Scores]] = deque()
            for batch in batches:
                if len(running) == self._at_once:
                    yield running.popleft().result()
                running.append(pool.submit(self.run, batch))
            while running:
                yield running.popleft().result()

    def _start(self, bundle: Network, options: ort.SessionOptions) -> ort.InferenceSession:
        import onnxruntime as ort

        model, provider = bundle.model_for(self.precision), _PROVIDERS.get(self.name)
        if provider is not None and provider not in ort.get_available_providers():
            install = "pip uninstall onnxruntime && pip install onnxruntime-gpu"
            raise EngineError(f"this ONNX Runtime has no {provider}: {install}")
        providers = ["CPUExecutionProvider"] if provider is None else _gpu_providers(provider, bundle)
        try:
            # ONNX Runtime's own fallback would print to standard output, where scores may go.
            return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
        except self._faults as error:
            reason = reason_of(error)
            if provider is None:
                raise BundleError(f"{self._model_path}: ONNX Runtime cannot load it: {reason}") from error
            raise EngineError(f"{provider} does not start: {reason}") from error

    def _checked_output(self) -> str:
        """Return the name of the model's output; BundleError if inputs or outputs are not a scorer's."""
        outputs = self._session.get_outputs()
        unknown = sorted(set(self._inputs) - _KNOWN_INPUTS)
        if unknown or "input_ids" not in self._inputs:
            raise BundleError(f"{self._model_path}: has inputs {self._inputs}, expected {_KNOWN_INPUTS}")
        if len(outputs) != 1 or outputs[0].type not in _FLOATS or list(outputs[0].shape[1:]) != [self._columns]:
            found = ", ".join(f"{node.type} {node.shape}" for node in outputs)
            raise BundleError(
                f"{self._model_path}: has outputs {found}, expected one of floats (batch, {self._columns})"
            )
        return str(outputs[0].name)


def onnxruntime_faults() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: exceptions of its own, which share no base, and those of its C++ code."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


def _gpu_providers(provider: str, bundle: Network) -> list[Any]:
    """Return a GPU's provider with its options, and after it those that take the operators which it leaves."""
    cuda = ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})  # the default doubles the memory
    if provider == cuda[0]:
        return [cuda, "CPUExecutionProvider"]
    # TensorRT builds for a range of shapes; without one it would build again for every new shape.
    length = bundle.max_length
    shapes = {"min": "1x8", "opt": _TENSORRT_TYPICAL, "max": f"{max(1, _GPU_BATCH_TOKENS // length)}x{length}"}
    profile = {
        f"trt_profile_{which}_shapes": ",".join(f"{name}:{shape}" for name in sorted(_KNOWN_INPUTS))
        for which, shape in shapes.items()
    }
    return [(provider, {"trt_fp16_enable": False, **profile}), cuda, "CPUExecutionProvider"]
