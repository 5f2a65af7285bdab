"""QuickDropout does what torch's dropout does."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from distill.training.dropout import QuickDropout, dropout


def test_share_and_mean_are_those_asked_for() -> None:
    torch.manual_seed(0)
    values = dropout(torch.ones(1000, 1001), 0.1)
    assert float((values == 0).float().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(values.mean()) == pytest.approx(1, abs=0.002)
    assert float(values.max()) == pytest.approx(1 / 0.9, rel=1e-4)


def test_ends_of_the_scale_and_the_type_are_kept() -> None:
    assert [dropout(torch.ones(2), p).tolist() for p in (0.0, 1.0)] == [[1, 1], [0, 0]]
    assert dropout(torch.ones(9, dtype=torch.bfloat16), 0.1).dtype == torch.bfloat16


def test_takes_the_place_of_torchs_own_in_modules_and_functions() -> None:
    layer = torch.nn.Dropout(0.5)
    values = torch.ones(1000)
    with QuickDropout():
        torch.manual_seed(1)
        first = layer(values)
        torch.manual_seed(1)
        second = functional.dropout(values, 0.5)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(values, 0.5))
    assert torch.equal(first, second)


def test_does_nothing_in_evaluation() -> None:
    layer = torch.nn.Dropout(0.5).eval()
    values = torch.ones(10)
    with QuickDropout():
        assert torch.equal(layer(values), values)


def test_gradient_passes_where_values_passed() -> None:
    values = torch.ones(4, 5, 3, requires_grad=True)
    with QuickDropout():
        kept = functional.dropout(values, 0.3)
    kept.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, kept.detach())
