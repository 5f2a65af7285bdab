"""Text -> token ids: exactly the tokenizer's own where a dialogue fits, shortened by the stated rule where not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from scorer.bundle.encode import Encoded, Encoder
from scorer.dialogue import Dialogue, Turn, render, render_context
from scorer.text import normalise
from tests.conftest import WORDS, make_dialogue, make_tokenizer, varied

LENGTHS = (16, 17, 32, 64)
SENTENCES = [
    "user: i am so sad, my dog died today.\nassistant: that is so sad, i am sorry.",
    "user: we won the game!\nassistant: great, what happened?",
]


def make_byte_level(*, prefix_space: bool = False, template: bool = False) -> Tokenizer:
    """Return a byte-level BPE like RoBERTa's: <s> A </s> </s> B </s>, no token types."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 10, trainer)
    ids = tokenizer.get_vocab()
    start, end = ("<s>", ids["<s>"]), ("</s>", ids["</s>"])
    tokenizer.post_processor = (
        processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[start, end]
        )
        if template
        else processors.RobertaProcessing(end, start, add_prefix_space=prefix_space)
    )
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bert": make_tokenizer,
    "roberta": make_byte_level,
    "roberta-template": lambda: make_byte_level(template=True),
    "roberta-prefix-space": lambda: make_byte_level(prefix_space=True),
}


@cache
def as_json(kind: str) -> str:
    return str(KINDS[kind]().to_str())


def fresh(kind: str) -> Tokenizer:
    """Return a tokenizer that no encoder has set up."""
    return Tokenizer.from_str(as_json(kind))


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def parts(tokenizer: Tokenizer, encoded: Encoded) -> tuple[list[int], list[int]]:
    """Return the tokens of the context and of the response, and check the special tokens around them."""
    bert = tokenizer.token_to_id("[SEP]") is not None
    start, end = (tokenizer.token_to_id(token) for token in (("[CLS]", "[SEP]") if bert else ("<s>", "</s>")))
    ids = encoded.ids.tolist()
    ends = [place for place, token in enumerate(ids) if token == end]
    between = [ends[0]] if bert else [ends[0], ends[0] + 1]
    assert ids[0] == start
    assert ids.count(start) == 1
    assert ends == [*between, len(ids) - 1]
    return ids[1 : ends[0]], ids[between[-1] + 1 : -1]


def random_dialogues(count: int, seed: int = 0) -> list[Dialogue]:
    """Return dialogues of one to ten turns before the response, turns of one to eighty words."""
    rng = random.Random(seed)
    words = [*WORDS, "i'm", "Really?!", "zebra", "ok."]

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(1, rng.choice((2, 8, 20, 80)))))

    return [make_dialogue(*(text() for _ in range(rng.randint(2, 11)))) for _ in range(count)]


def test_a_dialogue_that_fits_is_tokenised_as_the_pair_of_context_and_response(kind: str) -> None:
    dialogues, plain = random_dialogues(60), fresh(kind)
    for dialogue, encoded in zip(dialogues, Encoder(fresh(kind), 4096).encode(dialogues), strict=True):
        expected = plain.encode(*render(dialogue))
        assert encoded.ids.tolist() == expected.ids
        assert encoded.ids.dtype == np.int32
        assert [int(place >= encoded.first_segment) for place in range(len(encoded))] == expected.type_ids
        assert (encoded.cut_turns, encoded.cut_tokens, encoded.cut) == (0, 0, False)


def test_only_the_response_has_token_type_1_where_the_tokenizer_has_types() -> None:
    (encoded,) = Encoder(make_tokenizer(), 64).encode([make_dialogue("i am sad", "so sorry")])
    assert encoded.first_segment == len(["[CLS]", "user", ":", "i", "am", "sad", "[SEP]"])
    assert len(encoded) == encoded.first_segment + len(["so", "sorry", "[SEP]"])


def test_roles_are_part_of_the_context() -> None:
    turns = (Turn("system", "you"), Turn("user", "sad"), Turn("assistant", "so"))
    tokenizer = make_tokenizer()
    (encoded,) = Encoder(tokenizer, 64).encode([Dialogue(id="1", turns=turns, conversation="1")])
    assert parts(tokenizer, encoded) == (tokens(tokenizer, "system: you user: sad"), tokens(tokenizer, "so"))
    swapped = Dialogue(id="1", turns=(Turn("user", "you"), *turns[1:]), conversation="1")
    assert Encoder(tokenizer, 64).encode([swapped])[0].ids.tolist() != encoded.ids.tolist()


@pytest.mark.parametrize("length", [16, 64])
def test_special_tokens_in_a_text_are_text(kind: str, length: int) -> None:
    # So that this can fail: without the encoder, the tokenizer takes the text for structure.
    assert make_byte_level().encode("</s>", add_special_tokens=False).ids == [2]
    text = "[SEP] [CLS] [PAD] </s> <s> <pad> <mask>"
    tokenizer = fresh(kind)
    (encoded,) = Encoder(tokenizer, length).encode([make_dialogue(text, text)])
    context, response = parts(tokenizer, encoded)
    assert context
    assert response
    specials = {token for token in tokenizer.get_added_tokens_decoder() if tokenizer.id_to_token(token) != "[UNK]"}
    assert not specials & {*context, *response}


def test_padding_and_truncation_of_the_tokenizer_are_not_used() -> None:
    tokenizer = make_tokenizer()
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(8)
    dialogue = make_dialogue("i am so sad today", "that is so sad, i am sorry")
    (encoded,) = Encoder(tokenizer, 64).encode([dialogue])
    assert encoded.ids.tolist() == make_tokenizer().encode(*render(dialogue)).ids


@pytest.mark.parametrize("length", LENGTHS)
def test_no_dialogue_is_longer_than_the_model_takes_and_the_counts_are_exact(kind: str, length: int) -> None:
    dialogues, plain = random_dialogues(60, seed=length), fresh(kind)
    cut = 0
    for dialogue, encoded in zip(dialogues, Encoder(fresh(kind), length).encode(dialogues), strict=True):
        full = plain.encode(*render(dialogue))
        assert len(encoded) <= length
        assert encoded.cut_tokens == len(full.ids) - len(encoded)
        assert encoded.cut == (len(full.ids) > length)
        assert 0 <= encoded.cut_turns < len(dialogue.context)
        cut += encoded.cut
    assert cut > 10


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_cut_is_first_the_oldest_turns_then_the_response_last_the_newest_turn(kind: str, length: int) -> None:
    """The rule, stated over again: every dialogue keeps exactly what it allows."""
    tokenizer = fresh(kind)
    dialogues = random_dialogues(60, seed=100 + length)
    room = length - tokenizer.num_special_tokens_to_add(True)
    seen = set()
    for dialogue, encoded in zip(dialogues, Encoder(tokenizer, length).encode(dialogues), strict=True):
        context, response = parts(tokenizer, encoded)
        whole = tokens(tokenizer, normalise(dialogue.response))
        kept = tokens(tokenizer, render_context(dialogue.context[encoded.cut_turns :]))
        if len(kept) + len(whole) <= room:
            seen.add("turns" if encoded.cut_turns else "nothing")
            assert (context, response) == (kept, whole)
            if encoded.cut_turns:  # one turn more would not have fitted
                more = tokens(tokenizer, render_context(dialogue.context[encoded.cut_turns - 1 :]))
                assert len(more) + len(whole) > room
            continue
        assert encoded.cut_turns == len(dialogue.context) - 1
        assert len(encoded) == length
        assert_middle_is_cut(response, whole)
        assert_middle_is_cut(context, kept)
        if context != kept:  # the response gave way first, down to half
            seen.add("newest turn")
            assert len(response) == min(len(whole), room // 2)
        else:
            seen.add("response")
    assert seen >= {"turns", "response", "newest turn"}


def assert_middle_is_cut(kept: list[int], whole: list[int]) -> None:
    head = len(kept) - len(kept) // 2
    assert kept == whole if len(kept) == len(whole) else kept == whole[:head] + whole[len(whole) - len(kept) // 2 :]


def test_token_types_follow_the_cut_and_without_them_there_is_one_segment() -> None:
    assert all(item.first_segment == len(item) for item in Encoder(make_byte_level(), 16).encode(varied(20)))
    tokenizer = make_tokenizer()
    for encoded in Encoder(tokenizer, 16).encode(random_dialogues(60)):
        context, _ = parts(tokenizer, encoded)
        assert encoded.first_segment == len(context) + 2  # [CLS] and [SEP]


def test_joined_lines_of_a_tokenizer_with_prefix_space_tokenise_unlike_the_lines_alone() -> None:
    """Why the cut tokens are counted on the whole: a turn that becomes the first one gets other tokens."""
    tokenizer = make_byte_level(prefix_space=True)
    first, second = (render_context((Turn("user", text),)) for text in ("i am sad", "so sad"))
    joined = tokens(tokenizer, f"{first}\n{second}")
    assert joined[-len(tokens(tokenizer, second)) :] != tokens(tokenizer, second)
    plain = make_byte_level()
    assert tokens(plain, f"{first}\n{second}") == tokens(plain, f"{first}\n") + tokens(plain, second)


def test_lines_that_grow_when_joined_still_fit() -> None:
    """A tokenizer that reads over line ends: two lines together have more tokens than the two alone."""
    vocabulary = {"<unk>": 0, "a": 1}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    # A line by itself is one token; around a line break everything falls apart into characters.
    tokenizer.normalizer = normalizers.Replace("\nuser", " n e w l i n e ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    dialogue = make_dialogue("a", "a", "a", "a", "a", "a", "a a a a")
    for length in range(16, 40):
        (encoded,) = Encoder(tokenizer, length).encode([dialogue])
        assert len(encoded) <= length


def test_the_same_dialogue_gives_the_same_ids_whatever_is_beside_it(kind: str) -> None:
    encoder = Encoder(fresh(kind), 32)
    dialogues = random_dialogues(40)
    together = encoder.encode(dialogues)
    alone = [encoder.encode([dialogue])[0] for dialogue in dialogues]
    reverse = encoder.encode(dialogues[::-1])[::-1]
    for first, second, third in zip(together, alone, reverse, strict=True):
        assert first.ids.tolist() == second.ids.tolist() == third.ids.tolist()
        assert [first.first_segment, first.cut_turns, first.cut_tokens] == [
            second.first_segment,
            second.cut_turns,
            second.cut_tokens,
        ]


def test_a_huge_dialogue_is_cut_in_no_time(kind: str) -> None:
    """Once this took minutes and gigabytes: what is cut off must not be combined with what else is cut off."""
    text = " ".join(WORDS * 120)
    encoder = Encoder(fresh(kind), 16)
    started = time.monotonic()
    (encoded,) = encoder.encode([make_dialogue(*[text] * 4)])
    assert len(encoded) == 16
    assert time.monotonic() - started < 20


def test_a_text_that_the_tokenizer_drops_keeps_the_template() -> None:
    tokenizer = make_tokenizer()
    assert Encoder(tokenizer, 16).encode([]) == []
    (encoded,) = Encoder(tokenizer, 16).encode([make_dialogue("sad " * 40, "\u0301")])  # an accent, stripped
    context, response = parts(tokenizer, encoded)
    assert len(context) == 13
    assert response == []


@pytest.mark.parametrize("length", [-1, 0, 8, 15])
def test_a_model_of_fewer_than_16_tokens_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"max_length is {length}; .* at least 16"):
        Encoder(make_tokenizer(), length)
