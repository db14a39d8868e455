"""Small networks are fitted with one thread, unless somebody chose."""

from collections.abc import Iterator

import pytest
import torch

from smoothctl.distributed.threads import suited_threads
from smoothctl.training.fit import fit_baseline


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_network_has_one_and_it_is_said() -> None:
    said: list[str] = []
    with pytest.raises(KeyError), suited_threads(2_802, said.append):
        inside = torch.get_num_threads()
        raise KeyError
    assert (inside, torch.get_num_threads()) == (1, 2)
    assert said == [
        "Computes with one thread of 2, as suits a network of 2,802 parameters; OMP_NUM_THREADS=2 "
        "takes all."
    ]


def test_a_large_network_has_all() -> None:
    said: list[str] = []
    with suited_threads(50_000_000, said.append):
        assert torch.get_num_threads() == 2
    assert not said


def test_whoever_chose_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    said: list[str] = []
    with suited_threads(2_802, said.append):
        assert torch.get_num_threads() == 2
    assert not said


def test_a_fit_has_the_bits_of_one_thread(tmp_path) -> None:
    common = {"dataset": "rings", "architecture": "made", "training": {"steps": 3}}
    first = fit_baseline(out=tmp_path / "two", **common)
    torch.set_num_threads(1)
    second = fit_baseline(out=tmp_path / "one", **common)
    weights = [
        (run.path / "baseline" / "model.safetensors").read_bytes() for run in (first, second)
    ]
    assert weights[0] == weights[1]
