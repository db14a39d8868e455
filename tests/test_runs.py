"""Run folders: loading, single files, and every way in which a file can be wrong."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from smoothctl.errors import RunError, UsageError
from smoothctl.runs.config import StageConfig, from_toml, to_toml
from smoothctl.runs.run import Run, build_density, load_density, load_run, newest_run
from smoothctl.storage.weights import METADATA_KEY, read_weights, write_weights

TRUNCATED = [(0, "empty"), (5, "truncated"), (100, "truncated"), (-1, "truncated")]


@pytest.fixture
def copy(trained_run: Run, tmp_path: Path) -> Run:
    """A copy of the shared run that a test may damage."""
    shutil.copytree(trained_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_load_run_gives_the_method(trained_run: Run) -> None:
    run = load_run(trained_run.path)
    method = run.two_step()
    assert run.stages() == ["baseline", "prior", "denoiser"]
    assert method is not None
    assert method.kernel.sigma == 0.3
    assert not any(p.requires_grad for p in method.prior.parameters())
    assert run.dataset().name == "two-moons"


def test_best_weights_can_be_loaded(trained_run: Run) -> None:
    best = load_run(trained_run.path, weights="best").density("prior")
    assert best.log_prob(torch.zeros(1, 2)).isfinite().all()


def test_one_file_is_enough(trained_run: Run, tmp_path: Path) -> None:
    shutil.copy(trained_run.path / "prior/model.safetensors", tmp_path / "shared.safetensors")
    density, config = load_density(tmp_path / "shared.safetensors")
    assert config.dataset == "two-moons"
    assert density.sample(3).shape == (3, 2)


def test_weights_are_reproducible_bytes(trained_run: Run, tmp_path: Path) -> None:
    tensors, metadata = read_weights(trained_run.path / "prior/model.safetensors")
    write_weights(tmp_path / "again", tensors, metadata)
    original = (trained_run.path / "prior/model.safetensors").read_bytes()
    assert (tmp_path / "again").read_bytes() == original


def test_config_toml_names_the_source_of_each_value(trained_run: Run) -> None:
    text = (trained_run.path / "denoiser/config.toml").read_text()
    lines = {line.split(" = ")[0]: line for line in text.splitlines() if " = " in line}
    assert lines["sigma"].endswith("# prior")
    assert lines["kernel"].endswith("# prior")
    assert lines["keep"].endswith("# default")
    assert tomllib.loads(text)["sigma"] == 0.3


def test_config_survives_toml_and_json(trained_run: Run, tmp_path: Path) -> None:
    config = trained_run.stage("prior").config()
    (tmp_path / "c.toml").write_text(to_toml(config, {}))
    again = StageConfig.from_dict(from_toml(tmp_path / "c.toml"), "c.toml")
    assert again == config
    assert not config.differences(again)
    assert StageConfig.from_dict(json.loads(json.dumps(config.to_dict())), "json") == config


def test_a_baseline_with_sigma_or_a_prior_without_is_no_configuration(trained_run: Run) -> None:
    values = trained_run.stage("prior").config().to_dict()
    del values["sigma"]
    with pytest.raises(RunError, match="kernel and a sigma"):
        StageConfig.from_dict(values, "c.toml")


class TestDamage:
    """Each kind of damage has its own sentence."""

    def _load(self, run: Run) -> None:
        run.density("prior")

    def test_missing_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no run folder"):
            load_run(tmp_path / "none")

    def test_empty_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no complete stage; fit-prior makes one"):
            load_run(tmp_path)

    def test_half_fitted_run(self, copy: Run) -> None:
        for stage in copy.stages():
            copy.stage(stage).weights_file().unlink()
        with pytest.raises(RunError, match=r"prior of .* stopped at step 60 of 60; .*denoiser of"):
            load_run(copy.path)

    @pytest.mark.parametrize(
        ("keep", "word"), [(0, "empty"), (100, "truncated"), (-1, "truncated")]
    )
    def test_truncated(self, copy: Run, keep: int, word: str) -> None:
        file = copy.stage("prior").weights_file()
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(RunError, match=rf"model\.safetensors is {word}"):
            self._load(copy)

    def test_pickle_is_never_read(self, copy: Run) -> None:
        torch.save({"a": torch.zeros(1)}, copy.stage("prior").weights_file())
        with pytest.raises(RunError, match="it could run code and is never read"):
            self._load(copy)

    def test_foreign(self, copy: Run) -> None:
        save_file({"a": torch.zeros(1)}, copy.stage("prior").weights_file())
        with pytest.raises(RunError, match="not written by smoothctl"):
            self._load(copy)

    def test_future_format(self, copy: Run) -> None:
        file = copy.stage("prior").weights_file()
        tensors, metadata = read_weights(file)
        write_weights(file, tensors, {**metadata, "format": 2})
        with pytest.raises(RunError, match="newer smoothctl: it has format 2; .* upgrade"):
            self._load(copy)

    def test_metadata_that_is_no_json(self, copy: Run) -> None:
        file = copy.stage("prior").weights_file()
        save_file({"a": torch.zeros(1)}, file, metadata={METADATA_KEY: "{"})
        with pytest.raises(RunError, match="is damaged .its metadata are no JSON"):
            self._load(copy)

    def test_weights_of_another_shape(self, copy: Run) -> None:
        file = copy.stage("prior").weights_file()
        tensors, metadata = read_weights(file)
        tensors["first.weight"] = torch.zeros(3, 3)
        write_weights(file, tensors, metadata)
        with pytest.raises(RunError, match="does not fit its own configuration"):
            self._load(copy)

    def test_another_stage_s_file(self, copy: Run) -> None:
        shutil.copy(copy.stage("baseline").weights_file(), copy.stage("prior").weights_file())
        with pytest.raises(RunError, match="holds a baseline, not a prior"):
            self._load(copy)

    def test_unknown_key_in_the_metadata(self, copy: Run) -> None:
        file = copy.stage("prior").weights_file()
        tensors, metadata = read_weights(file)
        write_weights(file, tensors, {**metadata, "exec": "boom"})
        with pytest.raises(RunError, match="no configuration of a stage.*exec"):
            self._load(copy)

    def test_damaged_config(self, copy: Run) -> None:
        copy.stage("prior").config_file.write_text("stage = ")
        with pytest.raises(RunError, match=r"config\.toml is damaged, no TOML"):
            copy.stage("prior").config()

    def test_stages_that_do_not_belong_together(self, copy: Run) -> None:
        file = copy.stage("denoiser").weights_file()
        tensors, metadata = read_weights(file)
        write_weights(file, tensors, {**metadata, "sigma": 5.0})
        with pytest.raises(RunError, match=r"prior has sigma 0.3 and the denoiser 5.0"):
            copy.two_step()

    def test_the_weights_own_sigma_counts(self, copy: Run) -> None:
        config = copy.stage("prior").config_file
        config.write_text(config.read_text().replace("sigma = 0.3", "sigma = 5.0"))
        method = copy.two_step()
        assert method is not None
        assert method.kernel.sigma == 0.3


def test_newest_run_is_the_one_written_last(copy: Run, in_tmp: Path) -> None:
    with pytest.raises(RunError, match="no run under runs/"):
        newest_run()
    shutil.copytree(copy.path, in_tmp / "runs/old")
    shutil.copytree(copy.path, in_tmp / "runs/new")
    (in_tmp / "runs/new/prior/model.safetensors").touch()
    assert newest_run().name == "new"
    shutil.rmtree(in_tmp / "runs/new/prior")
    assert newest_run("prior").name == "old"


def test_unknown_key_in_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("sgima = 0.3\n")
    with pytest.raises(UsageError, match="unknown key 'sgima'; did you mean sigma"):
        from_toml(tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text("training = 3\n")
    with pytest.raises(UsageError, match=r"must be a table"):
        from_toml(tmp_path / "c.toml")


def test_a_prior_of_images_has_no_levels(trained_run: Run) -> None:
    """The prior of 8-bit data is continuous, the denoiser and the baseline are discretised."""
    from dataclasses import replace

    config = replace(trained_run.stage("prior").config(), levels=256)
    assert build_density(config).levels is None
    assert build_density(replace(config, stage="denoiser")).levels == 256
