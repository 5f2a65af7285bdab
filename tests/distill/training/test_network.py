"""The network: what it is made of, how it is fed, and that its last layer can carry a calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.errors import TrainError
from distill.training import network
from distill.training.network import depth_of, fold_affine, has_bf16, load_backbone, load_network, predict, to_tensors
from tests.conftest import varied
from tests.distill.tiny import KINDS, write_backbone


@pytest.fixture(scope="module", params=["bert", "roberta"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder of either kind."""
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny", kind=request.param)


def test_predictions_do_not_depend_on_batch_mates_or_order_and_follow_an_affine_map(backbone: Path) -> None:
    found = load_backbone(str(backbone))
    model = load_network(backbone)
    encoded = found.encoder(64).encode(varied(30))
    together = predict(model, encoded)
    alone = np.concatenate([predict(model, [item]) for item in encoded])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(predict(model, encoded[::-1])[::-1], together, atol=1e-5)
    assert model.training is False
    fold_affine(model, [2.0, 0.5], [1.0, -3.0])  # into the last layer
    np.testing.assert_allclose(predict(model, encoded), together * [2.0, 0.5] + [1.0, -3.0], atol=1e-5)


def test_inputs_are_padded_to_sixteens_with_the_backbones_padding(backbone: Path) -> None:
    found = load_backbone(str(backbone))
    encoded = found.encoder(64).encode(varied(5))
    inputs = to_tensors(encoded, found.pad_id, types=found.has_token_types)
    assert ("token_type_ids" in inputs) == found.has_token_types
    assert inputs["input_ids"].shape[1] % 16 == 0
    assert inputs["attention_mask"].sum(dim=1).tolist() == [len(item) for item in encoded]
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == found.pad_id).all()


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("bert.embeddings.word_embeddings.weight", 0),
        ("bert.encoder.layer.0.attention.self.query.weight", 1),
        ("bert.encoder.layer.5.output.dense.bias", 6),
        ("bert.pooler.dense.weight", 7),
        ("classifier.weight", 7),
        ("mpnet.encoder.relative_attention_bias.weight", 0),
        ("model.layers.3.mlp.Wo.weight", 4),
    ],
)
def test_depth_counts_from_the_embeddings(name: str, depth: int) -> None:
    assert depth_of(name, 6, name.split(".", maxsplit=1)[0] if name != "classifier.weight" else "bert") == depth


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_lowest_layers_are_kept_as_they_were(kind: str, layers: int, tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / kind, kind=kind, layers=3)
    found = load_backbone(str(folder), layers)
    model = load_network(folder, layers)
    assert found.layers == model.config.num_hidden_layers == layers
    assert found.parameters == model.num_parameters()
    base = model.base_model_prefix
    depths = {depth_of(name, layers, base) for name, _ in model.named_parameters()}
    assert depths == set(range(layers + 2))
    whole = load_network(folder).state_dict()
    mine = {name: tensor for name, tensor in model.state_dict().items() if depth_of(name, layers, base) <= layers}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in mine.items())
    ids = torch.arange(1, 13).reshape(1, 12)
    body, upper = (getattr(each, base).eval()(ids, output_hidden_states=True) for each in (model, load_network(folder)))
    torch.testing.assert_close(body.last_hidden_state, upper.hidden_states[layers])


def test_what_is_no_backbone_is_said_in_one_line(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"^layers is 3, expected 1 to 2, which \S*tiny has$"):
        load_backbone(str(backbone), 3)
    (tmp_path / "empty").mkdir()
    for name, what in (("empty", "expected the id of an encoder"), ("nowhere", "no such folder, and no id of a model")):
        with pytest.raises(TrainError, match=what) as caught:
            load_backbone(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_bytes((backbone / "config.json").read_bytes())
    with pytest.raises(TrainError, match="weights cannot be loaded"):
        load_network(tmp_path)


def test_bf16_does_not_round_the_scores_themselves(backbone: Path) -> None:
    model = load_network(backbone)
    fold_affine(model, (0.1, 0.1), (5, 6))
    scores = predict(model, load_backbone(str(backbone)).encoder(64).encode(varied(30)), bf16=True)
    assert len(np.unique(scores)) > len(np.unique(np.round(scores * 32)))


@pytest.mark.parametrize(
    ("features", "expected"),
    [({"x86", "amx_bf16"}, True), ({"x86", "avx512_bf16"}, True), ({"x86", "avx512_vnni"}, False), ({"arm"}, False)],
)
def test_training_computes_in_bf16_where_the_processor_is_faster_in_it(
    features: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(network, "cpu_features", lambda: frozenset(features))
    assert has_bf16() is expected
