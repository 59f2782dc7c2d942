"""Finding profiles, and keeping one's own."""

import pytest
from test_read_device import GOOD

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.catalogue import VARIABLE, add_device, all_devices, find_device, user_folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def test_own_profiles_are_found_where_the_variable_says(own, good):
    assert user_folder() == own
    assert "my-board" not in all_devices()
    kept = add_device(good)
    assert kept.parent == own
    assert all_devices()["my-board"].title == "My board"


def test_without_the_variable_they_lie_in_the_user_s_configuration(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_folder().name == "devices"
    assert "mimi-edge" in str(user_folder())


def test_a_name_is_taken_once(own, good):
    add_device(good)
    with pytest.raises(ConfigError, match="'my-board' already"):
        add_device(good)
    (own / "other.yaml").write_text(GOOD)
    (own / "t4.yaml").write_text(GOOD.replace("my-board", "t4"))
    (own / "broken.yml").write_text(GOOD.replace("8 GiB", "8"))
    with pytest.raises(ConfigError) as error:
        all_devices()
    told = str(error.value)
    assert "other.yaml: the name 'my-board' is taken by My board" in told
    assert "t4.yaml: the name 't4' is taken by NVIDIA T4" in told
    assert "broken.yml: memory: no unit" in told


def test_a_profile_with_faults_is_not_kept(own, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("kind: gpu", "kind: car"))
    with pytest.raises(ConfigError, match="kind: expected one of"):
        add_device(bad)
    assert not own.exists()


def test_other_files_in_the_folder_are_left_alone(own):
    own.mkdir()
    (own / "README.txt").write_text("not a profile")
    (own / "folder.yaml").mkdir()
    assert all_devices()


def test_a_device_is_found_by_its_name_and_its_mode(own):
    devices = all_devices().values()
    assert find_device("t4", devices).title == "NVIDIA T4"
    assert find_device("jetson-orin-nano-8gb:MAXN_SUPER", devices).memory_bytes_per_s == 102e9


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("orin-nano", "Did you mean jetson-orin-nano-4gb, jetson-orin-nano-8gb?"),
        ("rtx-4099", "rtx-4090"),
        ("toaster", "mimi-edge devices lists them all"),
        ("", "mimi-edge devices lists them all"),
        ("t4:MAXN", "has the power modes none"),
        ("jetson-orin-nano-8gb:FAST", "15W, 7W, 25W, MAXN_SUPER"),
    ],
)
def test_a_wrong_name_is_answered_with_right_ones(name, told, own):
    with pytest.raises(ConfigError) as error:
        find_device(name, all_devices().values())
    assert told in str(error.value)
