"""Which tokenizers a bundle may hold: known parts with sane values, that make no text much longer, ids of the model."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from scorer.bundle.bundle import STARTER
from scorer.bundle.tokenizer.check import TokenizerFileError, check_tokenizer
from tests.conftest import make_tokenizer

ROWS = make_tokenizer().get_vocab_size()


def charsmap(*texts: str) -> str:
    """Return a SentencePiece charsmap with an empty trie and these texts."""
    return base64.b64encode((0).to_bytes(4, "little") + b"".join(text.encode() + b"\0" for text in texts)).decode()


def spoilt(**parts: Any) -> bytes:
    """Return the tiny tokenizer with other parts; ``model`` and ``template`` change what is there."""
    value = json.loads(make_tokenizer().to_str())
    value["model"].update(parts.pop("model", {}))
    value["post_processor"].update(parts.pop("template", {}))
    return json.dumps(value | parts).encode()


def refusal(data: bytes, rows: int = ROWS) -> str:
    with pytest.raises(TokenizerFileError) as caught:
        check_tokenizer(data, rows)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


def replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


PIECE = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
A, B = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
TRUNCATION = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
HUGE = 10**9


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"padding": {**PADDING, "strategy": {"Fixed": HUGE}}}, "$.padding"),
        ({"padding": {**PADDING, "strategy": "BatchLongest", "pad_to_multiple_of": HUGE}}, "pad_to_multiple_of"),
        ({"truncation": {**TRUNCATION, "max_length": 0}}, "$.truncation.max_length"),
        ({"truncation": {**TRUNCATION, "max_length": HUGE}}, "$.truncation.max_length"),
        ({"normalizer": replaced({"Regex": ""}, "x" * 1000)}, "the pattern '' is none"),
        ({"normalizer": replaced({"Regex": "(a|a)*b"}, "")}, "is none of the known ones"),
        ({"normalizer": replaced({"Regex": "[^x]"}, "xx")}, "makes 1 characters 2, expected no longer text"),
        ({"normalizer": replaced({"String": "e"}, "e" * 10**6)}, "makes 1 characters 1000000"),
        ({"normalizer": replaced({"String": ""}, "")}, "length >= 1"),
        ({"normalizer": sequence(*[replaced({"String": "e"}, "ee")] * 3)}, "makes 1 characters 2"),
        ({"normalizer": sequence(*[replaced({"String": "e"}, "f")] * 13)}, "has over 12 parts"),
        (
            {"normalizer": sequence(sequence({"type": "ByteLevel"}), {"type": "ByteLevel"})},
            "has the part 'ByteLevel' twice",
        ),
        ({"normalizer": {"type": "Prepend", "prepend": "x" * HUGE.bit_length()}}, "$.normalizer"),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap("x" * 19)}},
            "gives 19 characters for one",
        ),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////"}}, "cut short"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "%"}}, "no base64"),
        ({"normalizer": {"type": "Evil"}}, "'Evil'"),
        ({"normalizer": {"type": "Lowercase", "more": 1}}, "more"),
        (
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Removed"}},
            "is none of the",
        ),
        ({"pre_tokenizer": {"type": "FixedLength", "length": 1}}, "FixedLength"),
        (
            {"post_processor": {"type": "RobertaProcessing", "sep": ["</s>", ROWS], "cls": ["<s>", 0]}},
            f"has id {ROWS}, exp",
        ),
        ({"post_processor": {"type": "BertProcessing", "sep": ["</s>", -1], "cls": ["<s>", 0]}}, "$.post_processor"),
        ({"template": {"pair": [A, B, A]}}, "holds the texts ['A', 'B', 'A'], expected ['A', 'B']"),
        ({"template": {"pair": [B, A]}}, "expected ['A', 'B']"),
        ({"template": {"single": [A, *[PIECE] * 100]}}, "length <= 16"),
        ({"template": {"single": [PIECE]}}, "expected ['A']"),
        ({"template": {"special_tokens": {}}}, "names '[CLS]', which is none of its special tokens"),
        ({"template": {"single": [{"Sequence": {"id": "A", "type_id": 7}}]}}, "type_id"),
        ({"decoder": {"type": "Shell"}}, "'Shell'"),
        ({"model": {"unk_token": "[GONE]"}}, "'[GONE]', is not in the vocabulary"),
        ({"model": {"max_input_chars_per_word": HUGE}}, "max_input_chars_per_word"),
        ({"model": {"continuing_subword_prefix": "#" * 17}}, "continuing_subword_prefix"),
        ({"model": {"type": "BPE", "merges": [], "dropout": 0.5}}, "$.model"),
        ({"model": {"vocab": {"[UNK]": -1}}}, "$.model.vocab"),
        ({"model": {"vocab": {"[UNK]": 2**40}}}, "$.model.vocab"),
        (
            {"added_tokens": [{"id": ROWS + 5, "content": "<new>"}]},
            f"token '<new>' has id {ROWS + 5}, expected ids below",
        ),
        ({"added_tokens": [{"id": 1, "content": ""}]}, "$.added_tokens[0].content"),
    ],
)
def test_what_a_tokenizer_must_not_hold(parts: dict[str, Any], message: str) -> None:
    assert message in refusal(spoilt(**parts))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": "1.0"}', b"\xff", b"[" * 10**5, b"garbage"])
def test_what_is_no_tokenizer(data: bytes) -> None:
    assert refusal(data)


def test_an_id_that_the_model_has_no_vector_for_is_named() -> None:
    last = max(make_tokenizer().get_vocab().items(), key=lambda entry: entry[1])[0]
    assert check_tokenizer(spoilt(), ROWS)
    assert f"token {last!a} has id {ROWS - 1}, expected ids below the {ROWS - 1} rows" in refusal(spoilt(), ROWS - 1)


def test_what_is_loaded_is_what_was_checked() -> None:
    """A key that stands twice: a reader that took the first one would load what nobody looked at."""
    twice = spoilt()[:-1].replace(b'"normalizer"', b'"normalizer": {"type": "Evil"}, "normalizer"', 1) + b"}"
    assert b"Evil" not in check_tokenizer(twice, ROWS)
    sized = spoilt(padding={**PADDING, "strategy": {"Fixed": 128}}, truncation={**TRUNCATION, "max_length": 128})
    made = Tokenizer.from_buffer(check_tokenizer(sized, ROWS))  # as sentence-transformers' own files have them
    assert (made.padding, made.truncation) == (None, None)
    assert made.to_str() == make_tokenizer().to_str()


def bpe(**more: Any) -> Tokenizer:
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6}
    return Tokenizer(models.BPE(vocabulary, [("a", "b")], unk_token="<unk>", **more))


def roberta() -> Tokenizer:
    made = bpe()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def mpnet() -> Tokenizer:
    made = make_tokenizer()
    made.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2), add_prefix_space=False)
    made.decoder = decoders.WordPiece()
    made.enable_padding(length=128)
    made.enable_truncation(128)
    return made


def deberta() -> Tokenizer:
    made = bpe(end_of_word_suffix="</w>")
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    made.post_processor = processors.Sequence([processors.ByteLevel(), template(made)])
    return made


def template(made: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, made.token_to_id(name)) for name in ("<s>", "</s>")],
    )


def xlm_r() -> Tokenizer:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.25), ("b", -2.1)]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    made.post_processor = template(made)
    return made


def albert() -> Tokenizer:
    made = xlm_r()
    made.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            *(normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    return made


@pytest.mark.parametrize("make", [make_tokenizer, roberta, mpnet, deberta, xlm_r, albert])
def test_the_tokenizers_of_the_usual_encoders_are_loaded_as_they_are(make: Any) -> None:
    made = make()
    found = Tokenizer.from_buffer(check_tokenizer(made.to_str().encode(), made.get_vocab_size()))
    made.no_padding()
    made.no_truncation()
    assert found.to_str() == Tokenizer.from_str(made.to_str()).to_str()


def test_a_charsmap_as_long_as_unicode_s_own_is_accepted() -> None:
    check_tokenizer(spoilt(normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap("x" * 18, "y")}), ROWS)


def test_the_starter_passes_what_its_hash_spares_it() -> None:
    check_tokenizer((STARTER / "tokenizer.json").read_bytes(), 30522)
