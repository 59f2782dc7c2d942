"""The device profiles travel with the wheel."""

from __future__ import annotations

import zipfile
from pathlib import Path


def test_every_device_profile_is_in_the_wheel(wheel: Path, source_tree: Path) -> None:
    profiles = {
        f"mimi_edge/profiles/devices/data/{file.name}"
        for file in (source_tree / "profiles" / "devices" / "data").glob("*.yaml")
    }
    with zipfile.ZipFile(wheel) as archive:
        assert "mimi_edge/profiles/devices/data/t4.yaml" in profiles
        assert profiles - set(archive.namelist()) == set()
