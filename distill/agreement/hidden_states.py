"""What an encoder that nobody trained for this makes of dialogues."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel

from distill.errors import TrainError, reason_to_refuse
from distill.labelled import LabelledSet
from distill.pretrained import hub_options
from distill.training.network import load_backbone, to_tensors

_BATCH = 64


@torch.inference_mode()
def hidden_states(labelled: LabelledSet, name: str) -> npt.NDArray[np.float32]:
    """Return the mean of an untrained encoder's last hidden states, (N, hidden size)."""
    backbone = load_backbone(name)
    encoded = backbone.encoder(min(256, backbone.max_length)).encode(labelled.dialogues)
    device, here = "cuda" if torch.cuda.is_available() else "cpu", hub_options(name, TrainError)
    try:
        model = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True, **here)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainError(f"encoder {name!r}: its weights cannot be loaded ({reason_to_refuse(error)})") from None
    model.eval().to(device)
    order = np.argsort([len(item) for item in encoded], kind="stable")
    features = np.zeros((len(encoded), backbone.hidden_size), dtype=np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        inputs = to_tensors([encoded[row] for row in rows], backbone.pad_id, types=backbone.has_token_types)
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        mask = inputs["attention_mask"][:, :, None]  # (B, T, 1)
        states = model(**inputs).last_hidden_state  # (B, T, hidden)
        features[rows] = ((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy()
    return features
