import sys

import numpy as np
import pytest
from PIL import Image

from mimi_edge.charts import draw_neurons_per_site, neurons
from mimi_edge.charts.neurons import ATTENTION, MLP
from mimi_edge.charts.style import COLOURS, INK
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.sites import Site

SITES = tuple(
    Site(f"layers.{stage}.blocks.{block}.{kind}", width, 64)
    for stage, (depth, width) in enumerate(((1, 48), (2, 96)))
    for block in range(depth)
    for kind in ("attn", "mlp")
)
START = {site.name: site.width for site in SITES}
END = {site.name: 3 + index for index, site in enumerate(SITES)}
EMPTIED = SITES[2].name


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), np.int16)


def drawn(tmp_path, *states, sites=SITES):
    path = tmp_path / "picture.png"
    draw_neurons_per_site(states, sites, path)
    return pixels(path)


def count_of(image, colour):
    return int((np.abs(image - np.round(np.multiply(colour, 255))).max(axis=2) <= 1).sum())


def test_the_picture_is_a_whole_png_and_the_same_each_time(tmp_path):
    path = tmp_path / "new folder" / "neurons.png"
    draw_neurons_per_site([START, END], SITES, path)
    first = path.read_bytes()
    draw_neurons_per_site([START, END], SITES, path)
    assert first.startswith(b"\x89PNG")
    assert path.read_bytes() == first
    assert [found.name for found in path.parent.iterdir()] == ["neurons.png"]


def test_other_neurons_give_other_pixels(tmp_path):
    other = END | {SITES[0].name: END[SITES[0].name] + 4}
    assert (drawn(tmp_path, START, END) != drawn(tmp_path, START, other)).any()


def test_more_neurons_at_the_end_give_more_dark_pixels_of_their_kind_only(tmp_path):
    before = drawn(tmp_path, START, END)
    after = drawn(tmp_path, START, END | {SITES[0].name: 40})
    assert count_of(after, ATTENTION.shade(1)) > 1.05 * count_of(before, ATTENTION.shade(1))
    assert count_of(after, MLP.shade(1)) == pytest.approx(count_of(before, MLP.shade(1)), rel=0.02)


def test_every_state_has_a_shade_of_its_own(tmp_path):
    halved = {name: count // 2 for name, count in START.items()}
    image = drawn(tmp_path, START, halved, END)
    for kind in (ATTENTION, MLP):
        shades = [kind.shade(share) for share in (0.0, 0.5, 1.0)]
        assert all(count_of(image, shade) > 1000 for shade in shades)


def test_an_emptied_site_is_marked(tmp_path):
    left_out = {name: count for name, count in END.items() if name != EMPTIED}
    ends = (END, END | {EMPTIED: 0}, left_out)
    ink = [int(COLOURS[INK][start : start + 2], 16) / 255 for start in (1, 3, 5)]
    marks = [count_of(drawn(tmp_path, START, end), ink) for end in ends]
    # One cross in the panel and one in the legend.
    assert marks[1] > marks[0] + 100
    assert marks[2] == marks[1]


@pytest.mark.parametrize("name", ["layers.2.blocks.10.attn", "blocks.3.self_attention"])
def test_attention_is_told_by_the_last_part_of_the_name(name):
    panels = neurons.panels_of([name, "attention_blocks.3.mlp"])
    assert panels == {ATTENTION: [name], MLP: ["attention_blocks.3.mlp"]}


def test_forty_eight_sites_and_only_one_kind_of_site_can_be_drawn(tmp_path):
    many = tuple(Site(f"blocks.{index}.{kind}", 1024, 16) for index in range(24) for kind in ("attn", "mlp"))
    states = [{site.name: 1024 >> shift for site in many} for shift in range(0, 11, 2)]
    wide = drawn(tmp_path, *states, sites=many)
    one_kind = drawn(tmp_path, {"blocks.0.mlp": 5}, sites=many[1:2])
    assert wide.shape[1] > one_kind.shape[1]
    assert wide.shape[0] > one_kind.shape[0]


def test_a_network_whose_sites_are_all_empty_can_be_drawn(tmp_path):
    assert count_of(drawn(tmp_path, START, {}), ATTENTION.shade(1)) < 1000
    assert count_of(drawn(tmp_path, {}), ATTENTION.shade(1)) < 1000


@pytest.mark.parametrize(
    ("states", "sites"), [([], SITES), ([START], ()), ([START | {"layers.9.attn": 1}], SITES)], ids=str
)
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(tmp_path, states, sites):
    with pytest.raises(ConfigError, match="sites"):
        draw_neurons_per_site(states, sites, tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("from_an_index")
def test_without_matplotlib_the_error_names_what_to_install(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MimiEdgeError, match=r'pip install "mimi-edge\[report\]"'):
        draw_neurons_per_site([START], SITES, tmp_path / "picture.png")


def test_drawing_leaves_pyplot_alone(tmp_path):
    already = "matplotlib.pyplot" in sys.modules
    drawn(tmp_path, START)
    assert ("matplotlib.pyplot" in sys.modules) == already
