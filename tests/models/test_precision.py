"""Reduced precision stays inside the convolutions, and changes results by rounding only."""

import pytest
import torch
from test_emorl import build, some_images

from emorl.models.emorl import EfficientMORL
from emorl.models.parts.precision import preferred_dtype


def test_bfloat16_gradients_are_float32_and_close():
    exact, images = build(), some_images()
    rounded = EfficientMORL(exact.settings, 16, torch.bfloat16)
    rounded.load_state_dict(exact.state_dict())
    for model in (exact, rounded):
        scalars = model.accumulate_gradients(images, 0, torch.Generator().manual_seed(0))
        assert all(value.dtype == torch.float32 for value in scalars.values())
    a, b = (torch.cat([p.grad.flatten() for p in m.parameters() if p.requires_grad]) for m in (exact, rounded))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.99


AMX = {"cpu_name": "Intel(R) Xeon(R)", "amx_bf16": True, "avx512_bf16": True}
INTEL = AMX | {"amx_bf16": False}
AMD = {"cpu_name": "AMD EPYC", "amx_bf16": False, "avx512_bf16": True}
ARM = {"architecture": "aarch64", "bf16": True}


@pytest.mark.parametrize(
    ("cpu", "dtype"),
    [
        (AMX, torch.bfloat16),
        (INTEL, torch.float32),
        (AMD, torch.bfloat16),
        (AMD | {"avx512_bf16": False}, torch.float32),
        (ARM, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch, cpu, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert preferred_dtype("auto", torch.device("cpu")) == dtype
    assert preferred_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert preferred_dtype("float32", torch.device("cpu")) == torch.float32
