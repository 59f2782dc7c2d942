"""Visual prompt tuning (VPT, arXiv 2203.12119): tokens beside those of the image.

Shallow: P tokens join in front of the first block and go through all. Deep: every block gets P of its own, which end
with it. What becomes of a deep token behind its block is never used, so it is enough that the block's attention looks
at them. Where attention looks at windows, all windows see them, as in the paper; those that go on do so as the mean of
what they became in each window of their image, and where four of the image's tokens are merged into one, as four alike.
(The authors' own program also averages them with the image's tokens at the end, and mixes the windows of several images
in that mean over windows; here they leave behind the last block, as on ViT, and answers do not depend on the batch.)
"""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.errors import ConfigError
from mimi_edge.methods.description import Axis, Description, Normal, StoredTensor, together
from mimi_edge.methods.edits import Prompts, Tokens
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored
from mimi_edge.sites import Site

SHALLOW = "prompts"
FIRST_STD = 0.02


@dataclass(frozen=True)
class PromptSettings:
    """How many."""

    tokens: int = setting(10, "P, tokens beside the image's.")


def describe_shallow(network: Network, settings: PromptSettings) -> Description:
    """Tokens for all blocks."""
    if not network.takes_prompts:
        raise ConfigError(
            "--method vpt-shallow needs a network through which tokens can go beside the image's: a plain ViT, DeiT or "
            "Swin (not V2). Here tokens are merged, pooled or looked at in another way. Take another method."
        )
    first, last = network.blocks[0], network.blocks[-1]
    tensor = StoredTensor(SHALLOW, (settings.tokens, first.width), Normal(FIRST_STD))
    return Description((tensor,), (), (Prompts(first.name, last.name, Stored(SHALLOW)),))


def describe_deep(network: Network, settings: PromptSettings) -> Description:
    """Tokens of its own for every block."""
    missing = [block.attention.name for block in network.blocks if block.attention.name not in network.takes_tokens]
    if missing:
        raise ConfigError(
            f"--method vpt-deep needs attention that can look at more tokens; {missing[0]} cannot: it normalises "
            "queries and keys, or computes its bias on the way. Take another method or a ViT, DeiT or Swin (not V2)."
        )
    return together(_for_block(block.attention, settings.tokens) for block in network.blocks)


def _for_block(site: Site, tokens: int) -> Description:
    name = f"{site.name}.tokens"
    axis = Axis(site.name, tokens, {name: 0}, neutral=False)
    return Description(
        (StoredTensor(name, (tokens, site.width), Normal(FIRST_STD)),), (axis,), (Tokens(site.name, Stored(name)),)
    )


SHALLOW_METHOD = Method(
    "vpt-shallow", "VPT-shallow", "arXiv 2203.12119", describe_shallow, PromptSettings, size="tokens"
)
DEEP_METHOD = Method("vpt-deep", "VPT-deep", "arXiv 2203.12119", describe_deep, PromptSettings, size="tokens")
