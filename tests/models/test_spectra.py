"""The inpainter of spectra, row by row as Table 3 of paper 5 prints it."""

import pytest
import torch
from torch import nn

from xai_lib.models.spectra import NOISE, SpectrumInpainter

TABLE_3 = [  # layer, filter size, output channels and length, parameters
    ("Conv1d", 21, (32, 1024), 4_736),
    ("Conv1d", 21, (64, 502), 43_072),
    ("BatchNorm1d", None, (64, 502), 128),
    ("Conv1d", 21, (128, 241), 172_160),
    ("BatchNorm1d", None, (128, 241), 256),
    ("Conv1d", 21, (16, 112), 43_024),
    ("BatchNorm1d", None, (16, 112), 32),
    ("ConvTranspose1d", 21, (64, 243), 43_072),
    ("BatchNorm1d", None, (64, 243), 128),
    ("ConvTranspose1d", 21, (128, 505), 172_160),
    ("BatchNorm1d", None, (128, 505), 256),
    ("ConvTranspose1d", 20, (64, 1024), 163_904),
    ("BatchNorm1d", None, (64, 1024), 128),
    ("Conv1d", 7, (128, 1024), 92_416),
    ("Conv1d", 7, (2, 1024), 1_794),
]


@pytest.fixture(scope="module")
def network():
    return SpectrumInpainter().eval()


def test_every_row_of_table_3(network):
    rows = []

    def note(module, inputs, output):
        size = module.kernel_size[0] if hasattr(module, "kernel_size") else None
        count = sum(p.numel() for p in module.parameters())
        rows.append((type(module).__name__, size, tuple(output.shape[1:]), count))

    hooks = [
        m.register_forward_hook(note)
        for m in network.modules()
        if isinstance(m, nn.Conv1d | nn.ConvTranspose1d | nn.BatchNorm1d)
    ]
    network(torch.rand(1, 2, 1024), torch.ones(1, 2, 1024), torch.randn(1, NOISE))
    for hook in hooks:
        hook.remove()
    assert rows == TABLE_3


def test_parameters_and_the_skip_connection(network):
    assert sum(p.numel() for p in network.parameters()) == 737_266
    assert network.last[0].in_channels == 103


def test_what_is_masked_is_not_seen(network):
    h, z = torch.rand(2, 2, 1024), torch.randn(1, NOISE).expand(2, -1)
    s = torch.zeros(2, 2, 1024)
    s[..., :300] = 1
    h[1, :, :300] = h[0, :, :300]
    filled = network(h, s, z)
    assert torch.equal(filled[0], filled[1])
    assert not torch.equal(filled, network(h, s, torch.randn(2, NOISE)))


def test_shapes_are_checked(network):
    with pytest.raises(ValueError, match="h, s and z have shapes"):
        network(torch.rand(1, 2, 1000), torch.ones(1, 2, 1000), torch.randn(1, NOISE))
