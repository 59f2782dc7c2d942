"""All methods, by name: the one place to add one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from mimi_edge.choices import MIMI_PLUS
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

_METHODS: dict[str, Method] = {
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
METHODS: Mapping[str, Method] = MappingProxyType(_METHODS)
"""By name, in the order in which they are listed."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def add_method(method: Method) -> None:
    """Adds a method of somebody's own to all that know methods by name, in this process.

    Raises:
        ConfigError: there is another of that name, or the name is none.
    """
    if METHODS.get(method.name, method) is not method:
        raise ConfigError(f"There is a method {method.name} already. Give yours another name.")
    if not _NAME.fullmatch(method.name):
        raise ConfigError(
            f"A method is called in small letters and digits, such as my-method; got {excerpt(method.name)}"
        )
    _METHODS[method.name] = method


def method_named(name: str, option: str = "--method") -> Method:
    """The method of a name.

    Args:
        name: of the method.
        option: that it was asked for by.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        near = get_close_matches(name, (*METHODS, MIMI_PLUS))
        hint = f"Similar: {', '.join(near)}. " if near else ""
        raise ConfigError(
            f"{option}: there is no method {excerpt(name)}. {hint}There are {', '.join(METHODS)}, and {MIMI_PLUS}."
        )
    return METHODS[name]
