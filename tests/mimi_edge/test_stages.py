"""Stages of networks: their own, or equal parts where there is one."""

from __future__ import annotations

import pytest

from mimi_edge.errors import ConfigError
from mimi_edge.methods.network import Network
from mimi_edge.sites import Site


def network(*blocks: str) -> Network:
    return Network(tuple(Site(f"{block}.{part}", 4, 1) for block in blocks for part in ("attn", "mlp")), 4)


SWIN = network("layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0")
VIT = network(*(f"blocks.{index}" for index in range(12)))


def test_the_stages_of_a_hierarchy_are_its_own() -> None:
    assert SWIN.stages(2) == {
        "layers.0.blocks.0.attn": 0,
        "layers.0.blocks.0.mlp": 0,
        "layers.0.blocks.1.attn": 0,
        "layers.0.blocks.1.mlp": 0,
        "layers.1.blocks.0.attn": 1,
        "layers.1.blocks.0.mlp": 1,
    }


@pytest.mark.parametrize(("count", "lengths"), [(2, [6, 6]), (3, [4, 4, 4]), (5, [3, 2, 3, 2, 2]), (12, [1] * 12)])
def test_a_plain_network_is_cut_into_equal_parts(count: int, lengths: list[int]) -> None:
    stages = VIT.stages(count)
    found = [stages[f"blocks.{index}.attn"] for index in range(12)]
    assert found == sorted(found)
    assert [found.count(stage) for stage in range(count)] == lengths
    assert all(stages[f"blocks.{index}.mlp"] == stage for index, stage in enumerate(found))


@pytest.mark.parametrize(("of", "count", "has"), [(SWIN, 3, "2 stages"), (VIT, 13, "one stage of 12 blocks")])
def test_other_numbers_of_shares_are_refused(of: Network, count: int, has: str) -> None:
    with pytest.raises(ConfigError, match=f"{count} shares, and the backbone has {has}"):
        of.stages(count)
