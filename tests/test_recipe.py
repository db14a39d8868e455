"""What a fit takes where nobody chose: per stage, and for few or many epochs."""

from pathlib import Path
from typing import Any

import pytest

from smoothctl.runs.config import StageConfig, to_toml
from smoothctl.training import fit
from smoothctl.training.settings import resolve as resolve_settings

FEW, MANY = {"steps": 10, "batch_size": 8}, {"steps": 4000, "batch_size": 64}


def resolve(stage: Any, training: Any, **settings: Any) -> StageConfig:
    """Returns what a fit would write, without fitting."""
    given = fit.FitSettings(architecture="pixelcnnpp", training=training, **settings)
    return resolve_settings(stage, given, fit.Quiet()).config


def begin(config: StageConfig, out: Path) -> None:
    """Leaves a stage as a fit that has just begun."""
    (out / config.stage).mkdir(parents=True)
    (out / config.stage / "config.toml").write_text(to_toml(config, {}))


@pytest.mark.parametrize(("training", "dropout"), [(FEW, 0.0), (MANY, 0.5)])
@pytest.mark.parametrize("stage", ["prior", "baseline"])
def test_many_epochs_take_dropout(stage: str, training: Any, dropout: float) -> None:
    options = resolve(stage, training).options
    assert (options["dropout"], options["blocks"]) == (dropout, 2)
    assert resolve(stage, training, options={"dropout": 0.1}).options["dropout"] == 0.1


@pytest.mark.parametrize(("steps", "without"), [(1000, 3), (2000, 2), (4000, 1), (10_000, 0)])
def test_the_noisier_the_data_the_later_comes_dropout(
    steps: int, without: int, tmp_path: Path
) -> None:
    """At 6, 12, 25 and 62 epochs of digits: plain model first, then denoiser, then prior."""
    training = {"steps": steps, "batch_size": 8}
    begin(resolve("prior", FEW), tmp_path)
    stages = ("prior", "denoiser", "baseline")
    found = [resolve(stage, training, out=tmp_path, overwrite=True) for stage in stages]
    assert [each.options["dropout"] for each in found] == [0.0] * without + [0.5] * (3 - without)


def test_an_aligned_denoiser_is_shallow(tmp_path: Path) -> None:
    begin(resolve("prior", FEW), tmp_path)
    assert resolve("denoiser", FEW, out=tmp_path).options["blocks"] == 1
    stacked = resolve("denoiser", FEW, out=tmp_path, options={"conditioning": "stacked"})
    assert stacked.options["blocks"] == 2


def test_what_was_chosen_for_the_prior_is_the_denoisers_too(tmp_path: Path) -> None:
    chosen = {"blocks": 3, "filters": 8, "dropout": 0.2}
    begin(resolve("prior", FEW, options=chosen), tmp_path)
    options = resolve("denoiser", FEW, out=tmp_path).options
    assert {key: options[key] for key in chosen} == chosen


def test_the_papers_presets_are_the_papers(tmp_path: Path) -> None:
    prior = resolve("prior", {}, preset="paper-mnist")
    assert (prior.training.ema, prior.training.steps) == (0, 750_000)
    begin(prior, tmp_path)
    options = resolve("denoiser", {}, out=tmp_path).options
    found = {key: options[key] for key in ("blocks", "dropout", "conditioning")}
    assert found == {"blocks": 5, "dropout": 0.5, "conditioning": "stacked"}


def test_a_stage_that_goes_on_keeps_what_it_was_begun_with(tmp_path: Path) -> None:
    """More steps are more epochs, and no other network."""
    begun = resolve("prior", FEW)
    begin(begun, tmp_path)
    longer = resolve("prior", MANY, out=tmp_path)
    assert longer.options == begun.options
    assert not begun.differences(
        resolve("prior", {**FEW, "steps": 5000}, out=tmp_path), longer=True
    )
    anew = resolve("prior", MANY, out=tmp_path, overwrite=True)
    assert anew.options["dropout"] == 0.5
