"""The profiles that come with mimi-edge."""

import re

import pytest

from mimi_edge.profiles.devices.catalogue import BUILT_IN, all_devices, profile_files
from mimi_edge.profiles.devices.read_device import read_device

FILES = profile_files(BUILT_IN)
EXPECTED = {
    *("jetson-orin-nano-4gb", "jetson-orin-nano-8gb", "jetson-orin-nx-8gb", "jetson-orin-nx-16gb"),
    *("jetson-agx-orin-32gb", "jetson-agx-orin-64gb", "jetson-thor-t5000", "t4", "l4", "a100-80gb", "h100-sxm"),
    *("h200-sxm", "rtx-3090", "rtx-4090", "rtx-5090", "cpu"),
}


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    return all_devices(tmp_path_factory.mktemp("none"))


def test_what_people_have_is_there(devices):
    assert set(devices) >= EXPECTED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_profile_is_whole_cites_its_sources_and_makes_sense(path):
    device = read_device(path)
    assert device.name == path.stem
    assert device.memory_bytes_per_s
    assert device.operations_per_s
    assert device.launch_overhead is not None
    assert device.launch_overhead.assumption
    assert device.sources
    rates = [device.operations_per_s[name] for name in ("fp32", "fp16", "int8") if name in device.operations_per_s]
    assert rates == sorted(rates)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sources_are_the_vendor_s_own_pages(path):
    for source in read_device(path).sources:
        assert source.publisher in {"NVIDIA", "JEDEC", "Intel"}
        if source.address:
            assert re.match(r"https://[a-z.]*nvidia\.com/", source.address)


def test_jetsons_share_their_memory_and_say_what_runs_on_them(devices):
    for device in devices.values():
        assert device.unified_memory == (device.kind in {"jetson", "cpu"})
        assert bool(device.jetpacks) == (device.kind == "jetson")


@pytest.mark.parametrize(
    ("name", "precision", "tera", "gigabytes_per_s"),
    [
        # Read off the data sheets a second time, on their own.
        ("jetson-orin-nano-8gb", "int8", 20, 68),
        ("jetson-orin-nano-8gb:MAXN_SUPER", "fp16", 17, 102),
        ("jetson-orin-nano-4gb:MAXN_SUPER", "int8", 17, 51),
        ("jetson-orin-nx-16gb", "fp32", 1.88, 102),
        ("jetson-agx-orin-64gb", "int8", 170 / 2, 204.8),
        ("jetson-agx-orin-32gb", "fp16", 54 / 2, 204.8),
        ("a100-80gb", "fp16", 312, 2039),
        ("h100-sxm", "int8", 3957.8 / 2, 3350),
    ],
)
def test_figures_are_dense_and_those_of_the_data_sheet(name, precision, tera, gigabytes_per_s, devices):
    name, _, mode = name.partition(":")
    device = devices[name].in_mode(mode) if mode else devices[name]
    assert device.operations_per_s[precision] == pytest.approx(tera * 1e12)
    assert device.memory_bytes_per_s == pytest.approx(gigabytes_per_s * 1e9)
