"""Reports as documents: out, through JSON, and back; old ones, and what is no report."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import (
    GPU,
    make_backbone,
    make_energy,
    make_environment,
    make_estimate,
    make_failed,
    make_measurement,
    make_report,
    make_samples,
    make_task,
)

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.profiles.latency import Share
from mimi_edge.profiles.report_comparison import condition_differences
from mimi_edge.profiles.report_documents import report_document, report_from_document
from mimi_edge.profiles.reports import EnergyUse, MeasuredAccuracy, MeasuredArtefact, MemoryUse, Preparation


def through_json(report):
    return json.loads(json.dumps(report_document(report), allow_nan=False))


FULL = make_report(
    failed=True,
    environment=make_environment(gpu=GPU, marks=("Something was odd.",)),
    artefacts=(
        make_backbone((1, 8)),
        make_task("digits", (1, 8)),
        make_failed(),
        replace(
            make_task("engine", ()),
            kind="engine",
            strategy="shared",
            measurements=(make_measurement(4, energy=make_energy(), estimate=make_estimate(4)),),
        ),
    ),
    ledger={"some": ["table"]},
)


@pytest.mark.parametrize("report", [FULL, make_report(), make_report(storage=None, tasks=())], ids=str)
def test_a_report_comes_back_as_it_was(report):
    assert report_from_document(through_json(report)) == report


def test_the_document_has_what_readers_want_worked_out():
    document = through_json(FULL)
    assert document["schema"] == 3
    backbone, digits, failed, engine = document["artefacts"]
    measured = digits["measurements"][0]
    assert measured["summary"]["p50_ms"] == pytest.approx(np.median(measured["latency_ns"]) / 1e6)
    assert measured["summary"]["count"] == len(measured["latency_ns"]) == 100
    assert measured["images_per_second"] == pytest.approx(1000 / measured["summary"]["mean_ms"])
    eight = digits["measurements"][1]
    assert eight["images_per_second"] == pytest.approx(8000 / eight["summary"]["mean_ms"])
    assert measured["ratio"]["to"] == "backbone"
    assert measured["ratio"]["seen"] == (not measured["ratio"]["low"] <= 1 <= measured["ratio"]["high"])
    assert backbone["measurements"][0]["ratio"] is None
    assert digits["size_bytes"] == sum(digits["files"].values())
    assert digits["accuracy"]["accuracy"] == digits["accuracy"]["right"] / digits["accuracy"]["images"]
    assert digits["memory"]["host_bytes"] == 240_000_000
    assert digits["memory"]["device_bytes"] == 250_000_000
    assert digits["preprocessing"]["summary"]["count"] == 2
    assert failed["failure"] == {"stage": "latency, batch 1", "message": "Killed: out of memory?", "exit_code": -9}
    energy = engine["measurements"][0]["energy"]
    assert energy["joules_per_image"] == pytest.approx((60 - 20) * 4.0 / 400)
    assert energy["mean_watts"] == pytest.approx(60)
    assert engine["measurements"][0]["estimate"]["label"] == "estimate"
    assert engine["measurements"][0]["estimate"]["bound"] == "compute"


def test_reports_differ_when_a_sample_does():
    report = make_report()
    first, *rest = report.artefacts
    measured = first.measurements[0]
    other = replace(measured, samples=replace(measured.samples, latency_ns=(1, *measured.samples.latency_ns[1:])))
    changed = replace(report, artefacts=(replace(first, measurements=(other, *first.measurements[1:])), *rest))
    assert report_document(changed) != report_document(report)


@pytest.mark.parametrize("damage", [{"schema": 4}, {"schema": None}, {"schema": True}, {"schema": 0}, {}], ids=str)
def test_another_schema_is_refused_with_a_way_on(damage):
    with pytest.raises(ArtifactError, match="Measure again"):
        report_from_document(damage)


def paths_in(value, before=()):
    """Every place in a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*before, key)
            yield from paths_in(inner, (*before, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from paths_in(value[0], (*before, 0))


DOCUMENT = through_json(make_report(tasks=("digits",), batches=(1,)))
DERIVED = {"summary", "images_per_second", "size_bytes", "backbone_bytes", "full_models_bytes", "host_bytes", "images"}
DERIVED |= {"device_bytes", "seen", "verdict", "balanced_accuracy"}


def said(document):
    """Why a document is refused, None where it is read."""
    try:
        report_from_document(document)
    except ArtifactError as error:
        return str(error)
    return None


@given(st.sampled_from([path for path in paths_in(DOCUMENT) if path[0] in {"artefacts", "storage"}]))
def test_a_document_that_lacks_something_is_refused_and_never_crashes(path):
    damaged = copy.deepcopy(DOCUMENT)
    inner = damaged
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    free = {"files", "neurons", "stored_accuracy", "tasks"}
    if said(damaged) is None:
        optional = {"accuracy", "exit_code", "device_floor_bytes", "device_peak_bytes", "backbone", "origin"}
        optional |= {"recalls", "cat", "dog", "eel", "processes", "correlation", "spread"}
        assert DERIVED & set(map(str, path)) or free & set(map(str, path[:-1])) or path[-1] in optional


@given(
    st.sampled_from([path for path in paths_in(DOCUMENT) if path[0] in {"artefacts", "storage", "environment"}]),
    st.sampled_from([None, "x", [], {}, -1]),
)
def test_a_document_with_nonsense_in_it_is_read_or_refused(path, nonsense):
    damaged = copy.deepcopy(DOCUMENT)
    inner = damaged
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = nonsense
    said(damaged)


def of_schema_2(report):
    """The document that a release before several processes wrote."""
    document = through_json(report) | {"schema": 2, "method": {"processes": "one for each artefact", "rounds": 100}}
    for artefact in document["artefacts"]:
        for later in ("backbone", "origin"):
            del artefact[later]
        for later in ("recalls", "balanced_accuracy"):
            (artefact["accuracy"] or {}).pop(later, None)
        for measured in artefact["measurements"]:
            del measured["processes"]
            for later in ("correlation", "spread", "verdict"):
                (measured["ratio"] or {}).pop(later, None)
    return document


def without_what_was_unknown(measurement):
    """Of a ratio, to schema 2."""
    if measurement.ratio is None:
        return measurement
    known = replace(measurement.ratio.ratio, correlation=None, spread=None)
    return replace(measurement, ratio=replace(measurement.ratio, ratio=known))


def test_a_report_of_schema_2_is_still_read_and_goes_with_one_of_today():
    report = report_from_document(of_schema_2(make_report()))
    for old, new in zip(report.artefacts, make_report().artefacts, strict=True):
        accuracy = None if new.accuracy is None else replace(new.accuracy, recalls={})
        measured = tuple(map(without_what_was_unknown, new.measurements))
        assert old == replace(new, backbone=None, origin="", accuracy=accuracy, measurements=measured)
    assert (report.backbones, report.origins) == ((), ())
    assert {measured.samples.processes for one in report.artefacts for measured in one.measurements} == {1}
    today = make_report(method={"processes": "some for each artefact", "processes_each": 3, "rounds": None})
    assert list(condition_differences(report, today)) == []


@pytest.mark.parametrize("schema", [1, 2])
def test_a_document_of_an_earlier_schema_with_nothing_in_it_is_refused(schema):
    with pytest.raises(ArtifactError, match="Measure again"):
        report_from_document({"schema": schema})


def test_a_report_of_schema_1_is_refused_with_what_to_do():
    with pytest.raises(ArtifactError, match=r"expected schema 2 to 3, got 1\. Measure again, with mimi-edge profile"):
        report_from_document(through_json(make_report()) | {"schema": 1})


def test_what_each_process_took_comes_back():
    shares = (Share(60, 4, 0, True), Share(40, 6, 0, False))
    samples = replace(make_samples(), shares=shares)
    report = make_report(artefacts=(make_backbone(measurements=(make_measurement(1, samples),)),))
    assert report_from_document(through_json(report)) == report
    assert [share["samples"] for share in through_json(report)["artefacts"][0]["measurements"][0]["processes"]] == [
        60,
        40,
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: MeasuredArtefact("a", "fruit", "ort-cpu"),
        lambda: MeasuredArtefact("", "task", "ort-cpu"),
        lambda: make_backbone(measurements=(make_measurement(1), make_measurement(1))),
        lambda: make_report(artefacts=(make_backbone(), make_backbone())),
        lambda: make_report(artefacts=()),
        lambda: make_measurement(0),
        lambda: make_measurement(1, replace(make_samples(), latency_ns=())),
        lambda: MeasuredAccuracy("test", 0, 0),
        lambda: MeasuredAccuracy("test", 3, 4),
        lambda: Preparation("x", (1,), (), (1,)),
        lambda: EnergyUse(1.0, 0.0, 1, 1.0, "counter", 1, "meter"),
        lambda: EnergyUse(1.0, 1.0, 0, 1.0, "counter", 1, "meter"),
    ],
)
def test_what_no_measurement_gives_cannot_be_said(make):
    with pytest.raises(ConfigError):
        make()


def test_memory_is_never_negative_and_unknown_stays_unknown():
    assert MemoryUse(100, 90).host_bytes == 0
    assert MemoryUse(100, 90).device_bytes is None
    assert MemoryUse(100, 190, 50, None).device_bytes is None
    assert MemoryUse(100, 190, 50, 80).device_bytes == 30


def test_artefacts_and_failures_are_found_by_name():
    assert FULL.artefact("digits").task == "digits"
    assert [one.name for one in FULL.failed] == ["broken"]
    assert FULL.batches == (1, 8, 4)
    assert FULL.artefact("digits").at(8).batch == 8
    assert FULL.artefact("digits").at(2) is None
    with pytest.raises(KeyError):
        FULL.artefact("cats")
