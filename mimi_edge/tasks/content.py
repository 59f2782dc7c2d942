"""The hash in a task file that shows whether the file is still what was written.

The description states the SHA-256 of the whole file as it is with zeros in place of the hash's digits. So it covers
names, shapes, types and bytes of all tensors and every letter of the description, and its length is known before its
value. Files of earlier releases state none.
"""

from __future__ import annotations

import hashlib

CONTENT_KEY = "content_sha256"
DIGITS = 64
UNKNOWN = "0" * DIGITS
"""Stands where the hash will be."""


def with_hash(content: bytes) -> bytes:
    """A task file whose description states `UNKNOWN`, with its hash in that place."""
    return content.replace(_entry(UNKNOWN), _entry(hashlib.sha256(content).hexdigest()), 1)


def states_itself(content: bytes, stated: str) -> bool:
    """Whether a task file that states a hash has it."""
    if len(stated) != DIGITS or not stated.isascii() or content.count(_entry(stated)) != 1:
        return False
    return hashlib.sha256(content.replace(_entry(stated), _entry(UNKNOWN), 1)).hexdigest() == stated


def _entry(digits: str) -> bytes:
    """How the entry lies in the file: JSON in a text of JSON. A name of a class has more backslashes before a quote."""
    return rf"\"{CONTENT_KEY}\":\"{digits}\"".encode("ascii")
