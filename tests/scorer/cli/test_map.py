"""`--map FIELD=COLUMN`: the layouts that nobody foresaw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scorer.errors import EmpathyError, InputError
from scorer.inputs.corpus import Corpus

ODD = {"question": "I lost my dog today.", "answer": "I am so sorry.", "uid": 7, "response": "the old answer"}


def test_mapped_columns_go_before_those_that_would_be_found(tmp_path: Path) -> None:
    """The answer that is named is the one that is judged."""
    source = tmp_path / "odd.jsonl"
    source.write_text(json.dumps(ODD) + "\n")
    (dialogue,) = Corpus([str(source)], fields={"response": "answer", "context": "question", "id": "uid"})
    assert (dialogue.id, [turn.content for turn in dialogue.turns]) == ("7", [ODD["question"], ODD["answer"]])  # type: ignore[union-attr]


def test_a_field_that_is_none_names_those_that_are(tmp_path: Path) -> None:
    """From Python and as an option."""
    from scorer.cli.options import _mapping

    with pytest.raises(InputError, match="'respnse' is no field, expected one of response, context"):
        Corpus([str(tmp_path)], fields={"respnse": "answer"})
    for given in ("respnse=answer", "response", "response="):
        with pytest.raises(EmpathyError, match="FIELD is one of response, context"):
            _mapping(None, None, [given])  # type: ignore[arg-type]
    with pytest.raises(EmpathyError, match="says twice which column holds response"):
        _mapping(None, None, ["response=a", "response=b"])  # type: ignore[arg-type]
