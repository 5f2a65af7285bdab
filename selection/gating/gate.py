"""`empathy gate` for a scorer: measured on the machine at hand, and the verdicts added to its folder."""

from __future__ import annotations

from collections.abc import Sequence

from scorer.bundle.bundle import Bundle
from scorer.bundle.encode import Encoder
from scorer.dialogue import SCORE_RANGE, Dialogue, training_hash
from scorer.engines.verdicts import Verdict
from selection.errors import GateError
from selection.gating.judge import MIN_CHECKED
from selection.gating.measure import Subject
from selection.rules import PAPER


def scorer_subject(bundle: Bundle, dialogues: Sequence[Dialogue]) -> Subject:
    """Return what the gate measures of a scorer: decisions of the paper rule on dialogues it was not trained on.

    GateError where too few of them are left.
    """
    training = bundle.info.training
    trained = {*training.content_hashes, *training.unlabelled_hashes}
    unseen = list({key: one for one in dialogues if (key := training_hash(one)) not in trained}.values())
    if len(unseen) < MIN_CHECKED:
        raise GateError(
            f"{len(unseen)} of {len(dialogues)} --check dialogues were not trained on and differ, expected at least "
            f"{MIN_CHECKED} to tell 1 % of changed decisions"
        )
    encoded = Encoder(bundle.tokenizer, bundle.info.max_length).encode(unseen)
    cuts = bundle.info.cuts
    return Subject(
        network=bundle,
        encoded=encoded,
        pad_id=bundle.info.pad_id,
        decide=lambda scores: PAPER.apply(scores, cuts),
        span=SCORE_RANGE,
    )


def any_lower_passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether something below fp32 may score here."""
    return any(row.allowed and row.precision != "fp32" for row in verdicts)
