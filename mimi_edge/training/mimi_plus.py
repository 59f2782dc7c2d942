"""`--method mimi+`: MiMi as it was best at equal bytes and passes, where bytes are short (docs/results.md).

Neurons in one bit, so that fourteen times as many fit, and the passes over the images that MiMi would take with sixteen
bits: it prunes less often, and has the rest in its last training. The task file says `mimi`, for that is what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mimi_edge.choices import MIMI_PLUS, Store
from mimi_edge.training.config import MIMI, TrainingConfig


def as_mimi(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a `TrainingConfig`, of which a store may be None; those that ask for `mimi+` as MiMi's."""
    is_plus = settings.get("method") == MIMI_PLUS
    chosen = {**settings, "store": settings.get("store") or (Store.INT1 if is_plus else TrainingConfig.store)}
    if is_plus:
        as_many = Store.FP16 if settings.get("passes") is None else None
        chosen |= {"method": MIMI, "passes_of": settings.get("passes_of") or as_many}
    return chosen
