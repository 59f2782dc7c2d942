"""CSV, Markdown and which ending gives which."""

import csv
import io
import json

import pytest
from rendering_samples import HOSTILE
from report_samples import make_report

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.rendering.comma_separated import csv_text, samples_csv_text
from mimi_edge.profiles.rendering.formats import FORMATS, check_format, write_report
from mimi_edge.profiles.rendering.markdown import escaped, markdown
from mimi_edge.profiles.report_comparison import read_report


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def cells_of(line):
    """Cells of a line of a Markdown table, escapes undone."""
    cells, cell, escape = [], "", False
    for letter in line.strip()[1:-1]:
        if escape or letter not in "\\|":
            cell, escape = cell + letter, False
        elif letter == "\\":
            escape = True
        else:
            cells.append(cell.strip())
            cell = ""
    return [*cells, cell.strip()]


def test_csv_has_a_row_for_each_artefact_and_batch(full_report):
    rows = rows_of(csv_text(full_report))
    assert len(rows) == 2 * (len(full_report.artefacts) - 1) + 1
    digits = full_report.artefact("digits")
    [row] = [it for it in rows if (it["artefact"], it["batch"]) == ("digits", "8")]
    found = digits.at(8)
    assert float(row["p50_ms"]) == found.summary.p50_ms
    assert float(row["ratio"]) == found.ratio.ratio.value
    assert float(row["joules_per_image"]) == found.energy.joules_per_image
    assert int(row["size_bytes"]) == digits.size_bytes
    assert (row["settled"], row["count"], row["neurons"], row["accuracy"]) == ("true", "100", "6", "0.9")
    failed = rows[-1]
    assert (failed["artefact"], failed["batch"], failed["failure_stage"]) == ("broken", "", "latency, batch 1")


def test_csv_starts_no_formula(full_report):
    rows = rows_of(csv_text(full_report))
    assert [row["artefact"] for row in rows if "1+1" in row["artefact"]] == ["'=1+1"] * 2
    assert {name for name in HOSTILE if not name.startswith("=")} <= {row["artefact"] for row in rows}


def test_csv_of_samples_has_every_sample(full_report):
    rows = rows_of(samples_csv_text(full_report))
    digits = full_report.artefact("digits").at(8).samples
    found = [it for it in rows if (it["artefact"], it["batch"]) == ("digits", "8")]
    assert [int(it["latency_ns"]) for it in found if it["warm_up"] == "false"] == list(digits.latency_ns)
    assert [int(it["latency_ns"]) for it in found if it["warm_up"] == "true"] == list(digits.warm_up_ns)


def test_markdown_tables_are_whole_whatever_things_are_called(full_report):
    lines = markdown(full_report).splitlines()
    tables = [index for index, line in enumerate(lines) if line.startswith(("| ---", "|---"))]
    assert len(tables) >= 12
    for index in tables:
        width = len(cells_of(lines[index - 1]))
        assert len(cells_of(lines[index])) == width
        for line in lines[index + 1 :]:
            if not line.startswith("|"):
                break
            assert len(cells_of(line)) == width
    first = {cells_of(line)[0] for line in lines if line.startswith("|")}
    assert {" ".join(name.split()) for name in HOSTILE} <= first


def test_markdown_says_the_figures(full_report):
    text = markdown(full_report)
    assert f"{full_report.artefact('digits').at(1).summary.p99_ms:.3f}" in text
    assert "## Fleet" in text or "Storage in MB" in text
    assert "Another process \\<was\\> on the GPU." in text


def test_markdown_escapes_what_it_would_take_for_its_own():
    assert escaped("a|b\n<c> *d* _e_ `f` [g] http://h ~i~") == (r"a\|b \<c\> \*d\* \_e\_ \`f\` \[g\] http\://h \~i\~")
    assert escaped("p50 ms: 1.5 (1 to 2)") == "p50 ms: 1.5 (1 to 2)"


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_ending_chooses_the_format(full_report, tmp_path, suffix):
    path = tmp_path / f"report{suffix.upper()}"
    write_report(full_report, path)
    assert path.read_text("utf-8") == FORMATS[suffix](full_report)
    assert [it.name for it in tmp_path.iterdir()] == [path.name]


def test_formats_are_told_apart_and_json_can_be_read_again(full_report, tmp_path):
    write_report(full_report, tmp_path / "a.json")
    assert read_report(tmp_path / "a.json") == full_report
    write_report(full_report, tmp_path / "a.samples.csv")
    write_report(full_report, tmp_path / "a.csv")
    assert (tmp_path / "a.samples.csv").read_text().startswith("artefact,batch,warm_up")
    assert (tmp_path / "a.csv").read_text().startswith("made,")
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["schema"] == 3


@pytest.mark.parametrize("name", ["report.pdf", "report", ".html", "html", "report.html.gz"])
def test_another_ending_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.csv, \.html, \.json, \.md"):
        write_report(make_report(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert check_format(tmp_path / "a.md") == ".md"


def test_a_place_that_cannot_be_written_is_named_and_stays_as_it_was(tmp_path):
    (tmp_path / "file").write_text("before")
    with pytest.raises(OSError, match=r"a\.md"):
        write_report(make_report(), tmp_path / "file" / "a.md")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]
