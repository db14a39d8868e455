"""Pictures are written and show something; more than two dimensions have none."""

from pathlib import Path

import pytest
import torch

from smoothctl.datasets import open_dataset
from smoothctl.reporting.figures import (
    Frame,
    bound_curves,
    comparison,
    panels,
    save,
    save_samples_picture,
)
from smoothctl.sampling.draw import Samples


def _pixels(path: Path) -> torch.Tensor:
    from matplotlib.image import imread

    return torch.from_numpy(imread(path))


@pytest.mark.parametrize("name", ["six-modes", "rings"])
def test_panels_show_every_set(tmp_path: Path, name: str) -> None:
    data = open_dataset(name)
    x = data.test.head(500)
    save(panels({"data": x, "shifted": x + 0.5, "again": x}, data), tmp_path / "p.png")
    image = _pixels(tmp_path / "p.png")[..., :3]
    for panel in image.tensor_split(3, dim=1):
        assert (panel.std(dim=-1) > 0.05).float().mean() > 0.001


def test_samples_that_are_not_finite_do_not_break_a_picture(tmp_path: Path) -> None:
    data = open_dataset("rings")
    x = data.test.head(50).clone()
    x[0] = torch.nan
    save(panels({"data": data.test.head(50), "broken": x}, data), tmp_path / "p.png")


def test_panels_are_of_equal_counts_and_one_outlier_sets_no_limits() -> None:
    rings = open_dataset("rings")
    data = rings.train.batch(0, 0, 0, 2000)
    wild = torch.cat([data, torch.full((1, 2), 1e6)])
    figure = comparison({"wild": wild, "few": data[:1500]}, rings)
    assert figure is not None
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["data: rings", "wild", "few"]
    assert {len(axis.collections[0].get_offsets()) for axis in figure.axes} == {1500}
    assert max(abs(limit) for axis in figure.axes for limit in axis.get_xlim()) < 10
    alone = Frame.around({"wild": wild}, None)
    assert max(map(abs, (*alone.x, *alone.y))) < 10


def test_more_than_two_dimensions_have_no_picture(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, 3)))
    data = open_dataset(str(tmp_path / "a.npy"))
    drawn = Samples(data.test.head(), None)
    assert save_samples_picture(tmp_path / "p.png", data, drawn, "baseline") is None
    assert not (tmp_path / "p.png").exists()


@pytest.mark.slow
def test_bound_curves(tmp_path: Path) -> None:
    lines = {"gaussian": {0.1: [1.0, 1.1], 1.0: [1.2, 1.3], 0.3: [0.9, 0.95]}, "laplace": {}}
    save(bound_curves({"sigma": lines, "": {"": {-1: [2.0]}}}, 0.8), tmp_path / "p.png")
    assert _pixels(tmp_path / "p.png").std() > 0.01
    save(bound_curves({"sigma": lines}, None, {"sigma": 0.9}), tmp_path / "wide.png")
    assert _pixels(tmp_path / "wide.png").std() > 0.01
