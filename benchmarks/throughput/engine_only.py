"""This package's engines without reading, tokenising and writing: seconds of `Scorer.run` over encoded dialogues.

Windows are those of `empathy score`. There is no warm-up: compiling for a new shape counts, as it does end to
end; loading the model does not.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.throughput.peers import write
from scorer.bundle.bundle import load_bundle
from scorer.dialogue import Dialogue
from scorer.engines.auto import make_engine
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.settings import ScoreSettings


@click.command()
@click.option("--engine", type=click.Choice(["onnxruntime", "openvino"]), required=True)
@click.option("--precision", required=True)
@click.option("--scorer", "path", type=click.Path(path_type=Path), required=True)
@click.option("--source", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--threads", type=int, required=True)
def main(engine: str, precision: str, path: Path, source: Path, output: Path, threads: int) -> None:
    """Print the seconds as JSON, and write the scores as a peer does."""
    bundle = load_bundle(path)
    scorer = Scorer(bundle, make_engine(engine, bundle, threads, precision))
    dialogues = [record for record in Corpus([str(source)]) if isinstance(record, Dialogue)]
    encoded = scorer.encoder.encode(dialogues)
    window = ScoreSettings().window
    start = time.perf_counter()
    parts = [scorer.run(encoded[at : at + window]) for at in range(0, len(encoded), window)]
    seconds = time.perf_counter() - start
    write(output, [dialogue.id for dialogue in dialogues], np.concatenate(parts))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
