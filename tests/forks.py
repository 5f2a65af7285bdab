"""Processes for tests that cost next to nothing: forked from one process that has loaded all that commands import.

A fork is what a user starts in all but its start: arguments, folder, environment, standard streams, limit and exit
code are its own. What modules read from the environment as they are loaded is that of the first process: whoever
changes more than ``FREE`` gets a process of its own, as does every test of how `empathy` starts.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, Self

ROOT = Path(__file__).parents[1]
EMPATHY = "scorer.cli.entry:start"

FREE = frozenset({"OPENAI_API_KEY", "EMPATHY_SERVE_KEYS", "PYTEST_CURRENT_TEST"})
"""What a fork's environment may change: read when it is needed, not when a module is loaded."""

_LIGHT = """
    scorer.run.score scorer.run.stream scorer.run.look scorer.calls.given scorer.engines.onnxruntime
    scorer.engines.auto scorer.hub.push scorer.cli.preview scorer.cli.lines selection.select selection.golden
    selection.gating.gate selection.serving.server selection.watching.server selection.probing.probe
    distill.judge.labelling distill.panel.label distill.rubrics.trial distill.rubrics.report distill.sampling.pick
    distill.agreement.compare distill.agreement.pictures distill.synthesis.run pyarrow.parquet pyarrow.csv
    pyarrow.dataset pandas altair huggingface_hub openai.resources.chat anyio.abc aiohttp openvino.passes tokenizers
    scipy.optimize scipy.stats scorer.cli.main scorer.cli.progress scorer.bundle.onnx_graph scorer.cluster.connection
    selection.report.build cloup
""".split()
_HEAVY = """
    distill.training.train distill.training.teach distill.exporting.export distill.loop transformers.trainer
    moe.pipeline
""".split()
_NEEDS_TORCH = frozenset({"train", "teach", "export", "distill", "moe", "run"})


class Fork:
    """A process that runs, with as much of `subprocess.Popen` as tests need."""

    def __init__(self, pid: int, state: socket.socket, streams: Sequence[IO[Any] | None]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self._state = state

    def poll(self) -> int | None:
        """Return its exit code, a signal's number negated, or nothing while it runs."""
        try:
            return self.wait(0)
        except (BlockingIOError, subprocess.TimeoutExpired):
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code as soon as it ends."""
        if self.returncode is None:
            self._state.settimeout(timeout)
            try:
                self.returncode = os.waitstatus_to_exitcode(int(self._state.recv(32)))
            except TimeoutError:
                raise subprocess.TimeoutExpired("a fork", timeout or 0) from None
            self._state.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def communicate(self, data: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Write all, read all and wait for its end."""
        found: list[Any] = [None, None]

        def write() -> None:
            assert self.stdin is not None
            with suppress(BrokenPipeError), self.stdin as stream:
                if data:
                    stream.write(data)

        def read(number: int, stream: IO[Any]) -> None:
            with stream:
                found[number] = stream.read()

        outputs = [(number, stream) for number, stream in enumerate((self.stdout, self.stderr)) if stream is not None]
        threads = [threading.Thread(target=read, args=one) for one in outputs]
        threads += [threading.Thread(target=write)] if self.stdin is not None else []
        for thread in threads:
            thread.start()
        try:
            self.wait(timeout)
        finally:
            self.kill()
            for thread in threads:
                thread.join()
        return found[0], found[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()


class Forks:
    """The process that others are forked from; it is started with the first of them."""

    def __init__(self) -> None:
        self.environment: Mapping[str, str] = os.environ
        self._process: subprocess.Popen[bytes] | None = None

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Return whether a process of this environment may be a fork."""
        if sys.platform != "linux":
            return False
        if self._process is None:
            self._begin()
            atexit.register(self.close)
        return {name for name, _ in set(self.environment.items()) ^ set(environment.items())} <= FREE

    def _begin(self) -> None:
        self.environment = dict(self.environment)
        self._asks, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.forks import serve\nserve({there.fileno()})"
        )
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program], pass_fds=[there.fileno()], env=self.environment
            )

    def start(
        self, run: str, arguments: Sequence[str], *, stdin: bool = False, stdout: bool = False, stderr: bool = False,
        text: bool = False, cwd: Path | None = None, env: Mapping[str, str] | None = None,
        largest_file: int | None = None,
    ) -> Fork:  # fmt: skip
        """Start ``module:function``, with pipes as standard streams where that is said."""
        changed = {name: (os.environ if env is None else env).get(name) for name in FREE}
        where = str(cwd or Path.cwd())
        asked = {"run": run, "arguments": [*arguments], "cwd": where, "changed": changed, "limit": largest_file}
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs, mine = list[int](), list[IO[Any] | None]()
        for number, piped in enumerate((stdin, stdout, stderr)):
            if piped:
                pipe = os.pipe()
                theirs.append(pipe[number > 0])
                mine.append(os.fdopen(pipe[number == 0], ("r" if number else "w") + ("" if text else "b")))
            else:
                theirs.append(os.open(os.devnull, os.O_RDONLY) if number == 0 else os.dup(number))
                mine.append(None)
        with there:
            socket.send_fds(self._asks, [json.dumps(asked).encode()], [*theirs, there.fileno()])
        for descriptor in theirs:
            os.close(descriptor)
        return Fork(int(here.recv(32)), here, mine)

    def close(self) -> None:
        if self._process is not None:
            self._asks.close()
            self._process.wait()


FORKS = Forks()
Process = subprocess.Popen[Any] | Fork


def empathy(
    *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, largest_file: int | None = None,
    installed: bool = False, text: bool = True, **piped: bool,
) -> Process:  # fmt: skip
    """Start `empathy`: in a fork, or as the installed command where that is said or its environment wants it.

    It listens to Ctrl-C even where the tests run in the background of a shell. ``stdin``, ``stdout`` and ``stderr`` say
    which streams are pipes. No file may grow beyond ``largest_file`` bytes, which is what a full disk is to a program.
    """
    given = [*map(str, arguments)]
    if not installed and FORKS.takes(os.environ if env is None else env):
        return FORKS.start(EMPATHY, given, env=env, cwd=cwd, largest_file=largest_file, text=text, **piped)

    def prepare() -> None:
        limit_files(largest_file)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    streams = {name: subprocess.PIPE for name, wanted in piped.items() if wanted}
    command = [str(Path(sys.executable).with_name("empathy")), *given]
    nothing = {} if "stdin" in streams else {"stdin": subprocess.DEVNULL}
    started: Process = subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        text=text,
        preexec_fn=prepare if os.name == "posix" else None,  # noqa: PLW1509 - it takes no lock
        **streams,
        **nothing,  # type: ignore[call-overload]
    )
    return started


def serve(control: int) -> NoReturn:
    """Fork for all who ask, as long as anybody may."""
    _load(_LIGHT)
    gc.collect()
    gc.freeze()
    asks = socket.socket(fileno=control)
    while True:
        message, descriptors, _, _ = socket.recv_fds(asks, 1 << 20, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            sys.exit()
        asked = json.loads(message)
        if asked["run"] == EMPATHY and asked["arguments"][:1] and asked["arguments"][0] in _NEEDS_TORCH:
            _load(_HEAVY)
            gc.freeze()
        if os.fork() == 0:
            asks.close()
            _forked(asked, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _load(names: Sequence[str]) -> None:
    for name in names:
        with suppress(ModuleNotFoundError):  # an extra that is not installed
            import_module(name)


def _forked(asked: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Fork once more, to tell how that one ends; it runs what is asked for."""
    state = socket.socket(fileno=descriptors[3])
    if pid := os.fork():
        _watch(pid, state, descriptors[:3])
    state.close()
    for target, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(asked["cwd"])
    for name, value in asked["changed"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    limit_files(asked["limit"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["empathy", *asked["arguments"]]
    sys.path[:2] = [str(Path(sys.executable).parent)]  # as for the installed command; nothing of the folder it runs in
    module, _, name = asked["run"].partition(":")
    _end(getattr(import_module(module), name))


def _end(run: Callable[[], object]) -> NoReturn:
    """Run, and end as an interpreter does, but without taking apart all that is loaded, which is half of the time."""
    code: object = 0
    try:
        run()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - as an interpreter says it
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else code is not None)


def limit_files(largest: int | None) -> None:
    """Let no file of this process grow beyond so many bytes: to a program that is what a full disk is."""
    if largest is not None:
        import resource  # which Windows lacks

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def _watch(pid: int, state: socket.socket, descriptors: list[int]) -> NoReturn:
    for descriptor in descriptors:
        os.close(descriptor)
    state.send(b"%d" % pid)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody asked how it ended
        state.send(b"%d" % status)
    os._exit(0)
