"""From records to token ids: windows, hashes, identical texts, and records that break the tokenizer."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from scorer.bundle.encode import Encoded, Encoder
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.prepare import prepare, prepare_windows, records_hash, windows
from scorer.reading.windows import Share
from tests.conftest import make_dialogue, record, varied, write_lines


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """5,000 short dialogues, every hundredth of which is none."""
    records: list[object] = [record("i am sad", f"so sorry {number}", id=str(number)) for number in range(5000)]
    records[::100] = [{"messages": []}] * 50
    return Corpus([str(write_lines(tmp_path / "in.jsonl", records))])


def test_the_first_windows_are_small_and_no_record_is_lost(corpus: Corpus) -> None:
    sizes = [len(list(window)) for window in windows(corpus, 2000)]
    assert sizes == [1024, 2000, 1976]
    assert [len(list(window)) for window in windows(corpus, 1000)] == [1000] * 5


@pytest.mark.parametrize("count", [1, 3, 4])
def test_shares_have_every_window_once(corpus: Corpus, scorer: Scorer, count: int) -> None:
    domain = scorer.bundle.info.domain
    found = [
        [window.number for window in prepare_windows(corpus, scorer.encoder, domain, 700, (), Share(index, count))]
        for index in range(count)
    ]
    assert sorted(number for numbers in found for number in numbers) == list(range(8))
    assert all(number % count == index for index, numbers in enumerate(found) for number in numbers)


def test_a_share_splits_into_parts_that_take_turns() -> None:
    parts = Share(1, 3).split(2)
    taken = [[number for number in range(20) if part.has(number)] for part in parts]
    assert taken == [[1, 7, 13, 19], [4, 10, 16]]


def test_a_finished_window_is_read_for_its_hash_alone(corpus: Corpus, scorer: Scorer) -> None:
    whole = list(prepare_windows(corpus, scorer.encoder, scorer.bundle.info.domain, 1000))
    again = list(prepare_windows(corpus, scorer.encoder, scorer.bundle.info.domain, 1000, {0, 2}))
    assert [window.records for window in again] == [window.records for window in whole]
    assert [len(window.ids) for window in again] == [0, 990, 0, 990, 990]
    assert [window.size for window in again] == [1000] * 5
    assert whole[-1].position == corpus.total_bytes


def test_the_hash_knows_ids_contents_and_faults() -> None:
    first, second = varied(2)
    assert records_hash([first, second]) == records_hash([first, second])
    assert records_hash([first, second]) != records_hash([second, first])
    assert records_hash([first]) != records_hash([make_dialogue("i am sad", "great")])


def test_identical_texts_are_one_piece_of_work(scorer: Scorer) -> None:
    """Whatever their ids, their roles' spelling and their spaces; and also after a trip to another process."""
    same = [make_dialogue("i am sad", "So  sorry"), make_dialogue("I am sad", "so sorry")]
    other = make_dialogue("i am sad", "so sorry !")
    found = prepare([same[0], other, same[1]], scorer.encoder, scorer.bundle.info.domain)
    for window in (found, pickle.loads(pickle.dumps(found))):
        assert window.tokens.texts.tolist() == [0, 1, 0]
        assert window.work == len(window.tokens.text(0)) + len(window.tokens.text(1))
    assert (found.tally.scored, found.tally.repeats) == (3, 1)
    scores = scorer.run(found.tokens)
    assert scores.shape == (3, 2)
    assert scores[0].tobytes() == scores[2].tobytes() != scores[1].tobytes()


class Panicky(Encoder):
    """An encoder whose tokenizer fails on one word, as the Rust library does: with a bare Exception, or a panic."""

    fault: type[BaseException] = Exception

    def encode_rendered(self, texts: Any, dialogues: Any) -> list[Encoded]:
        if any("poison" in dialogue.response for dialogue in dialogues):
            raise self.fault("no match\nfor this")
        return super().encode_rendered(texts, dialogues)


PanicException = type("PanicException", (BaseException,), {})


@pytest.mark.parametrize("fault", [Exception, PanicException])
def test_what_breaks_the_tokenizer_is_a_reject_and_the_rest_is_scored(
    scorer: Scorer, fault: type[BaseException]
) -> None:
    encoder = Panicky(scorer.bundle.tokenizer, scorer.bundle.info.max_length)
    encoder.fault = fault
    records: list[Any] = [*varied(20)]
    records[7] = make_dialogue("i am sad", "poison")
    found = prepare(records, encoder, scorer.bundle.info.domain)
    assert [(reject.reason, reject.id) for reject in found.rejects] == [("tokenizer_failed", records[7].id)]
    assert "no match for this" in found.rejects[0].detail
    assert found.ids == [item.id for item in records if item is not records[7] and isinstance(item, Dialogue)]
    assert len(found.tokens) == found.tally.scored == 19
    assert found.tally.rejected == {"tokenizer_failed": 1}


def test_other_faults_are_not_blamed_on_a_record(scorer: Scorer) -> None:
    encoder = Panicky(scorer.bundle.tokenizer, scorer.bundle.info.max_length)
    encoder.fault = ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        prepare([make_dialogue("i am sad", "poison")], encoder, scorer.bundle.info.domain)
