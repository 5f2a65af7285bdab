"""A scorer in other processes and threads: forked, spawned, pickled; the same scores everywhere, and never for ever."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorer.bundle.bundle import Bundle
from scorer.errors import BundleError
from scorer.model import Scorer
from tests.conftest import record, varied, write_tiny_bundle

ENGINES = ("onnxruntime", "openvino")
WAYS = ("map", "map_table", "fork", "spawn", "forkserver", "joblib", "threads", "forgotten", "fork_of_fork")
SLOW = ("map_table", "spawn", "forkserver", "joblib")
SECONDS = 120


def is_slow(way: str, engine: str) -> bool:
    """Return whether this is for `make test-all`: ways that take long, and a second engine but for a fork."""
    return way in SLOW or (engine == "onnxruntime" and way != "fork")


def records() -> list[dict[str, Any]]:
    """Return what is scored: enough for several batches on several streams."""
    return [record(*(turn.content for turn in dialogue.turns)) for dialogue in varied(400)]


def rows_of(scorer: Scorer, part: list[dict[str, Any]]) -> list[list[float]]:
    """Score a part, wherever this runs."""
    found: list[list[float]] = scorer.score(part).tolist()
    return found


def joined(parts: list[list[list[float]]]) -> list[list[float]]:
    return [row for part in parts for row in part]


def score_elsewhere(way: str, scorer: Scorer) -> list[list[float]]:
    """Score in four other processes (or threads), by one of the ways that users have."""
    items = records()
    parts = [items[start : start + 50] for start in range(0, len(items), 50)]
    if way in ("map", "map_table"):
        import datasets

        datasets.disable_progress_bars()
        data = datasets.Dataset.from_list(items)
        if way == "map":
            made = data.map(lambda row: {"found": scorer.score(row).tolist()}, num_proc=4)
            return list(made["found"])
        made = data.with_format("arrow").map(scorer.score_frame, batched=True, batch_size=50, num_proc=4)
        table = made.with_format("arrow")[:]
        return list(map(list, zip(table["sensibility"].to_pylist(), table["rationality"].to_pylist(), strict=True)))
    if way in ("fork", "spawn", "forkserver"):
        import multiprocessing

        with multiprocessing.get_context(way).Pool(4) as pool:
            return joined(pool.starmap(rows_of, [(scorer, part) for part in parts]))
    if way in ("joblib", "threads"):
        from joblib import Parallel, delayed

        run = Parallel(4, backend="loky" if way == "joblib" else "threading")
        return joined(run(delayed(rows_of)(scorer, part) for part in parts))
    return score_in_forks(way, scorer, items)


def score_in_forks(way: str, scorer: Scorer, items: list[dict[str, Any]]) -> list[list[float]]:
    """Score in a child that ends as Python does, having forgotten its parent's scorer, or in a child of a child."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if way == "fork_of_fork":
            scorer.score(items[:20])
            if child := os.fork():
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            found = rows_of(scorer, items)
        else:
            path, engine = scorer.bundle.path, scorer.engine.name
            del scorer
            found = rows_of(Scorer.load(path, engine=engine, threads=2), items)
        with os.fdopen(writing, "w") as file:
            json.dump(found, file)
        sys.exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    loaded: list[list[float]] = json.loads(text)
    return loaded


@pytest.mark.parametrize(
    ("way", "engine"),
    [pytest.param(*pair, marks=pytest.mark.slow if is_slow(*pair) else ()) for pair in product(WAYS, ENGINES)],
)
def test_scores_are_the_same_in_other_processes_and_threads(
    way: str, engine: str, bundle: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip(engine)
    command = [sys.executable, "-m", "tests.scorer.calls.test_processes", way, engine, str(bundle.path)]
    more = {"HF_DATASETS_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(more),
        start_new_session=True,
    )
    try:
        out, err = running.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)  # its children, too
        running.communicate()
        pytest.fail(f"{way} with {engine} did not end within {SECONDS} s")
    assert running.returncode == 0, err[-2000:]
    here, there = json.loads(out.splitlines()[-1])
    np.testing.assert_allclose(there, here, atol=1e-5)
    assert len(np.unique(here, axis=0)) > 200


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **more}


# Pickles.


def test_a_pickle_is_small_and_loads_the_same_scorer_when_it_is_used(scorer: Scorer) -> None:
    data = pickle.dumps(scorer)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert "to be loaded from" in repr(again)
    assert pickle.dumps(again) == data
    items = records()[:20]
    np.testing.assert_array_equal(again.score(items), scorer.score(items))
    assert again.bundle.sha256 == scorer.bundle.sha256
    assert pickle.loads(data).engine is again.engine  # a pool's tasks each bring it once more


def test_a_pickle_reads_its_folder_wherever_the_process_went(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.path.parent)
    data = pickle.dumps(Scorer.load(bundle.path.name, engine="onnxruntime", threads=1))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(data).score(record("i am sad", "so sorry")).shape == (2,)


def test_a_pickle_whose_folder_holds_another_scorer_or_none_is_refused_when_it_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    write_tiny_bundle(folder, seed=3)
    data = pickle.dumps(Scorer.load(folder, engine="onnxruntime", threads=1))
    folder.rename(tmp_path / "old")
    with pytest.raises(BundleError, match="no such folder"):
        pickle.loads(data).score(record("i am sad", "so sorry"))
    write_tiny_bundle(folder, seed=4)
    with pytest.raises(BundleError, match=r"is another scorer \("):
        _ = pickle.loads(data).bundle


def test_the_starter_is_pickled_by_name_so_that_another_machine_has_it_too() -> None:
    data = pickle.dumps(Scorer.load(engine="onnxruntime", threads=1))
    assert b"starter" not in data


if __name__ == "__main__":
    chosen, engine_name, folder = sys.argv[1:]
    mine = Scorer.load(folder, engine=engine_name, threads=2)
    expected = rows_of(mine, records())
    sys.stdout.write(f"\n{json.dumps([expected, score_elsewhere(chosen, mine)])}\n")
