"""A stage's command line resolves to its configuration, and recreates its weights."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoothctl.errors import RunError
from smoothctl.runs import commands
from smoothctl.runs.commands import fit_command, sample_command, score_command, shell
from smoothctl.runs.config import StageConfig, to_toml
from smoothctl.runs.run import Run
from smoothctl.testing import CommandLine
from smoothctl.training import fit
from smoothctl.training.settings import FitPlan
from smoothctl.training.settings import resolve as resolve_settings

VECTORS: list[dict[str, Any]] = [
    {},
    {"dataset": "six-modes", "kernel": "laplace", "sigma": 0.1, "seed": 7},
    {"architecture": "realnvp", "precision": "float64", "options": {"couplings": 3}},
    {"options": {"mixtures": 3, "width": 17}, "training": {"steps": 9, "learning_rate": 3e-05}},
    {"training": {"warmup": 3, "decay": "exponential", "decay_rate": 0.5, "compile": True}},
]
IMAGES: list[dict[str, Any]] = [
    {"architecture": "pixelcnnpp"},
    {"architecture": "pixelcnnpp", "preset": "small"},
    {"architecture": "pixelcnnpp", "training": {"clip": 5.0, "warmup": 0.3}},
    {"architecture": "pixelcnnpp", "preset": "small", "options": {"dropout": 0.0}},
    {"architecture": "pixelcnnpp", "preset": "paper-mnist", "training": {"steps": 11, "ema": 0.0}},
    {"dataset": "digits", "preset": "small", "options": {"blocks": 1, "classes": 10}, "sigma": 0.4},
]


def resolve(name: Any, **settings: Any) -> StageConfig:
    """Returns what a fit would write, without fitting."""
    return resolve_settings(name, fit.FitSettings(**settings), fit.Quiet()).config


def write(config: StageConfig, out: Path) -> None:
    folder = out / config.stage
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(config, {}))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, cli: CommandLine):
    """Returns a function that gives the configuration which a typed command resolves to."""
    configs: list[StageConfig] = []

    def only_resolve(name: Any, settings: fit.FitSettings, reporter: Any) -> FitPlan:
        plan = resolve_settings(name, settings, reporter)
        configs.append(plan.config)
        return plan

    monkeypatch.setattr(fit, "fit_stage", only_resolve)
    monkeypatch.setattr("smoothctl.cli.fit.print_result", lambda *_: None)

    def run(arguments: list[str]) -> StageConfig:
        cli.output(*arguments[1:])
        return configs.pop()

    return run


@pytest.mark.parametrize("settings", VECTORS + IMAGES, ids=str)
@pytest.mark.parametrize("stage", ["prior", "baseline"])
def test_a_typed_command_resolves_to_the_same_configuration(typed, stage: Any, settings) -> None:
    given = {k: v for k, v in settings.items() if stage == "prior" or k not in ("kernel", "sigma")}
    config = resolve(stage, **given)
    assert typed(fit_command(config, "out")) == config


def test_a_joint_model_too(typed) -> None:
    config = resolve("joint", options={"mixtures": 3}, seed=2, sigma=0.2)
    assert typed(fit_command(config, "out")) == config


@pytest.mark.parametrize(
    ("prior", "changes"),
    [
        (VECTORS[1], {}),
        (VECTORS[3], {"options": {"mixtures": 5}, "training": {"beta2": 0.9}}),
        (VECTORS[2], {"architecture": "made"}),
        (IMAGES[1], {"options": {"dropout": 0.0}}),
        (IMAGES[4], {}),
        (IMAGES[4], {"preset": "small", "training": {"steps": 4}}),
        (IMAGES[0], {"preset": "small"}),
        (IMAGES[5], {"seed": 3}),
    ],
    ids=str,
)
def test_a_denoisers_command_says_what_differs_from_its_prior(typed, prior, changes) -> None:
    first = resolve("prior", **prior)
    write(first, Path("run"))
    second = resolve("denoiser", out="run", **changes)
    command = fit_command(second, "run", first)
    assert typed(command) == second
    assert "--dataset" not in command


def test_settings_of_the_data_come_back(typed, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 3)).astype(np.uint8)
    path = tmp_path / "it's $HOME & more.npz"
    np.savez(path, images)
    config = resolve("prior", dataset=str(path), data={"grey": True, "size": 8}, sigma=0.3)
    assert config.data
    assert typed(fit_command(config, "out")) == config


def test_defaults_are_left_unsaid() -> None:
    config = resolve("prior", options={"mixtures": 4})
    command = fit_command(config, "r")
    assert command[:2] == ["smoothctl", "fit-prior"]
    assert command[-4:] == ["--set", "mixtures=4", "--out", "r"]
    assert len([word for word in command if word == "--set"]) == 1


def test_everything_is_said_of_an_architecture_that_is_not_installed(monkeypatch) -> None:
    config = resolve("prior")

    def absent(name: str) -> None:
        raise RunError(f"no {name}")

    monkeypatch.setattr(commands.architectures, "load", absent)
    command = fit_command(config, "r")
    for key in config.options:
        assert any(word.startswith(f"{key}=") for word in command), key
    assert "training.warmup=0.02" in command
    assert "--steps" in command


@pytest.mark.parametrize("value", ["true", "1", "a b", "gaussian", "", "ü = '\"\\", 1e-5, [1, 2]])
def test_values_are_read_as_they_were(value: Any) -> None:
    from smoothctl.config import parse_value

    assert parse_value(commands._text(value)) == value


def test_a_shell_reads_the_words_as_they_are() -> None:
    words = ["smoothctl", "score", "a b", "--set", "x='$(id)'", "--out", "`id`;#"] + ["--seed"] * 9
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    text = shell([sys.executable, "-c", code, *words])
    assert " \\\n" in text
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    import json

    assert json.loads(done.stdout) == words


def test_no_run_is_taken_for_an_option() -> None:
    assert sample_command("-x", 5, 0, "last")[2] == "./-x"


def test_scoring_takes_the_settings_of_an_entry() -> None:
    entry = {
        "weights": "best",
        "seed": 3,
        "draws": 4,
        "samples_each": 0,
        "likelihood": [
            {"quantity": "exact", "examples": 500},
            {"quantity": "exact, by quadrature", "examples": 9999},
        ],
    }
    command = score_command("r", entry)
    pairs = dict(zip(command[3::2], command[4::2], strict=True))
    assert pairs == {
        "--limit": "500", "--draws": "4", "--samples": "0", "--seed": "3", "--weights": "best",
    }  # fmt: skip
    assert score_command("r") == ["smoothctl", "score", "r"]


def test_scoring_takes_the_limit_the_draws_and_the_features_of_an_entry() -> None:
    entry = {"limit": None, "draws": [2, 8], "quality": {"features": "inception"}, "likelihood": []}
    command = score_command("r", entry)
    assert command[3:] == ["--limit", "0", "--draws", "2,8", "--features", "inception"]
    rest = {"limit": 9, "quadrature": 0, "quality": None}
    assert score_command("r", {**entry, **rest})[3:] == [
        "--limit", "9", "--draws", "2,8", "--quadrature", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "flags"),
    [
        ("digits (train)", []),
        ("digits (test)", ["--reference", "digits", "--split", "test"]),
        ("some folder", ["--reference", "some folder"]),
    ],
)
def test_scoring_names_a_reference_that_is_not_the_run_s_own(reference: str, flags: list) -> None:
    quality = {"features": "pixels", "reference": reference}
    command = score_command("r", {"dataset": "digits", "quality": quality})
    assert command[3:] == ["--features", "pixels", *flags]


@pytest.mark.slow
def test_the_shell_recreates_the_weights_bit_by_bit(tmp_path: Path) -> None:
    """From the first run's configuration alone, in new processes."""
    out, again = tmp_path / "a run", tmp_path / "again"
    tiny = {"steps": 2, "batch_size": 8, "warmup": 1, "validation_limit": 8}
    common = {"out": out, "training": tiny, "device": "cpu"}
    options = {"blocks": 1, "filters": 4, "mixtures": 2}
    fit.fit_prior(dataset="digits", preset="small", options=options, seed=5, **common)
    run = fit.fit_denoiser(options={"mixtures": 3}, **common)
    prior = run.stage("prior").config()
    for stage in ("prior", "denoiser"):
        text = shell([*fit_command(run.stage(stage).config(), again, prior), "--device", "cpu"])
        text = text.replace("smoothctl", f"{sys.executable} -m smoothctl", 1)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(["bash", "-c", text], check=True, capture_output=True, env=environment)
        mine, theirs = (r.stage(stage).weights_file().read_bytes() for r in (run, Run(again)))
        assert mine == theirs
