"""A run that an earlier version began is resumed: what a window came to may lack the counts that came later."""

from __future__ import annotations

from pathlib import Path

from scorer.run.manifest import Identity, Manifest
from scorer.run.windows import WHOLE

IDENTITY = Identity(scorer="s", engine="onnxruntime", precision="fp32", window=64, uncertainty=False, shards=1)
OF_0_1_0 = (
    '{"identity": {"scorer": "s", "engine": "onnxruntime", "precision": "fp32", "window": 64, "uncertainty": false, '
    '"shards": 1}}\n'
    '{"number": 0, "records": "5578", "tally": {"scored": 64, "repeats": 0, "cut": 0, "cut_turns": 0, "cut_tokens": 0, '
    '"tokens": 2375, "sums": [434.9, 267.5], "rejected": {}, "outside": {"unseen_tokens": 1, "any": 1}}}\n'
)


def test_manifest_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "_manifest.jsonl").write_text(OF_0_1_0)
    manifest = Manifest(tmp_path, WHOLE, IDENTITY)
    done, complete = manifest.read()
    manifest.close()
    assert not complete
    assert (done[0].records, done[0].tally.scored, done[0].tally.noted, done[0].tally.conversations) == (
        "5578",
        64,
        {},
        {},
    )
