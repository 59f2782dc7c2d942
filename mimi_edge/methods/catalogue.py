"""All methods, by name: the one place to add one."""

from __future__ import annotations

from collections.abc import Mapping

from mimi_edge.errors import ConfigError
from mimi_edge.methods import (
    adapter_plus,
    adapters,
    adaptformer,
    fact,
    hypercomplex,
    lora,
    mimi,
    mlp_head,
    parts,
    prompts,
    repadapter,
    sidetune,
    sparse_adapter,
    ssf,
)
from mimi_edge.methods.method import Method
from mimi_edge.texts import excerpt

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        mimi.METHOD,
        adapters.METHOD,
        adaptformer.METHOD,
        adapter_plus.METHOD,
        hypercomplex.PHM,
        hypercomplex.COMPACTER,
        sparse_adapter.METHOD,
        lora.METHOD,
        fact.TT,
        fact.TK,
        repadapter.METHOD,
        ssf.METHOD,
        prompts.SHALLOW_METHOD,
        prompts.DEEP_METHOD,
        parts.BITFIT,
        parts.LINEAR,
        mlp_head.METHOD,
        sidetune.METHOD,
        parts.PARTIAL,
        parts.ATTENTION,
        parts.MLP,
        parts.FULL,
    )
}


def method_named(name: str) -> Method:
    """The method of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"--method must be one of {', '.join(METHODS)}, got {excerpt(name)}")
    return METHODS[name]
