"""A seeded sample of what ``tests/robustness/run.py`` tries in full."""

from __future__ import annotations

import sys

import pytest
from robustness import crafted_events, fault_schedules, hostile_files, kills, wrong_options

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="pipes, devices and signals")


@pytest.mark.parametrize("loader", ["fast", "slow"])
def test_crafted_event_files_hide_no_other_run(tmp_path, loader, capsys):
    outcomes = crafted_events.attempt(tmp_path, loader, limit=96)
    assert outcomes.losses == []
    assert outcomes.tried == 96
    if loader == "slow":
        assert crafted_events.attempt_reports(tmp_path, lambda: capsys.readouterr().out).losses == []


@on_linux
def test_faults_cost_neither_the_training_nor_what_was_written(tmp_path):
    outcomes = fault_schedules.attempt(tmp_path, schedules=12, served=6)
    assert outcomes.losses == []
    assert outcomes.tried == 12


@on_linux
def test_a_killed_training_has_lost_no_epoch(tmp_path):
    assert kills.attempt(tmp_path, kills=1).losses == []


@on_linux
@pytest.mark.parametrize("kind", ["pictures", "models", "labels", "links"])
def test_hostile_files_are_refused(tmp_path, capsys, kind):
    outcomes = getattr(hostile_files, f"attempt_{kind}")(tmp_path, capsys.readouterr)
    assert outcomes.losses == []
    assert outcomes.tried > 20


def test_changed_manifests_reach_nothing_outside(tmp_path, capsys):
    outcomes = hostile_files.attempt_manifests(tmp_path, capsys.readouterr, every=20)
    assert outcomes.losses == []


def test_changed_rows_are_refused(tmp_path, capsys):
    outcomes = hostile_files.attempt_rows(tmp_path, capsys.readouterr, every=20)
    assert outcomes.losses == []


def test_wrong_options_are_refused_before_the_first_batch():
    outcomes = wrong_options.attempt(limit=400)
    assert outcomes.losses == []
    assert outcomes.tried == 400
    # Everything public that takes options is among the cases.
    assert wrong_options.functions_without_case() == []
