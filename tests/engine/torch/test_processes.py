"""One process of a training on several writes."""

from __future__ import annotations

import pytest
import torch

from keras_gradcam.engine.torch.processes import is_first_process


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/joined", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_single_process_writes():
    assert is_first_process()


@pytest.mark.parametrize(
    ("rank", "size", "first"),
    [("0", "2", True), ("1", "2", False), ("3", "1", True), ("1", "", True), ("second", "2", True)],
)
def test_without_a_group_the_variables_of_torchrun_tell(monkeypatch, rank, size, first):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert is_first_process() is first


@pytest.mark.parametrize(("rank", "first"), [(0, True), (1, False)])
def test_rank_0_of_a_group_writes(monkeypatch, group, rank, first):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    assert is_first_process() is first
