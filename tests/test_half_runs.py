"""What each verb says of a run whose prior, denoiser or baseline is missing or half done."""

import json
import shutil
from pathlib import Path

import pytest

from smoothctl.runs.run import Run, load_run

STOPPED = "The prior of half stopped at step 54 of 60; the same fit-prior command finishes it."
VERBS = {
    "sample": ["half"],
    "sample --method all": ["half", "--method", "all"],
    "sample --method two-step": ["half", "--method", "two-step"],
    "sample --method smoothed": ["half", "--method", "smoothed"],
    "score": ["half"],
    "denoise": ["test", "half"],
}


@pytest.fixture
def half(trained_run: Run, in_tmp: Path) -> Run:
    """A run whose prior was interrupted beside a complete denoiser."""
    shutil.copytree(trained_run.path, "half")
    shutil.rmtree("half/baseline")
    Path("half/prior/model.safetensors").unlink()
    shutil.rmtree("half/prior/checkpoints/step-00000060")
    return load_run("half")


@pytest.mark.parametrize("verb", VERBS)
def test_half_a_prior_is_told_by_its_steps(cli, half: Run, verb: str) -> None:
    code, out, err = cli(verb.split()[0], *VERBS[verb])
    assert code == 1, (out, err)
    assert [line for line in err.splitlines() if line.startswith("Error")] == [f"Error: {STOPPED}"]


def test_a_missing_prior_too(cli, half: Run) -> None:
    shutil.rmtree("half/prior")
    code, _, err = cli("sample", "half")
    assert code == 1
    assert "Error: half has no prior; fit-prior --out half makes one." in err


def test_a_baseline_beside_it_is_scored_and_the_rest_is_told(
    cli, half: Run, trained_run: Run
) -> None:
    shutil.copytree(trained_run.path / "baseline", "half/baseline")
    code, out, err = cli("score", "half", "--samples", "0", "--json")
    assert code == 0, err
    scores = json.loads(out)
    assert [e["model"] for e in scores["likelihood"]] == ["baseline"]
    assert scores["not_available"]["two-step bound"] == STOPPED


@pytest.mark.parametrize("verb", [["sample", "half", "--method", "two-step"], ["denoise", "test"]])
def test_half_a_denoiser_is_the_denoisers_fault(
    cli, trained_run: Run, in_tmp: Path, verb: list[str]
) -> None:
    shutil.copytree(trained_run.path, "half")
    Path("half/denoiser/model.safetensors").unlink()
    shutil.rmtree("half/denoiser/checkpoints")
    code, _, err = cli(*verb, *(["half"] if verb[-1] == "test" else []))
    assert code == 1
    said = (
        "The denoiser of half stopped at step 0 of 60; the same fit-denoiser command finishes it."
    )
    assert f"Error: {said}" in err
    assert load_run("half").two_step() is not None


def test_the_command_finishes_it(cli, half: Run) -> None:
    code, _, err = cli("fit-prior", "--config", "half/prior/config.toml", "--out", "half")
    assert code == 0, err
    assert "Resumes half/prior at step 54 of 60." in err
    assert cli("sample", "half", "-n", "20")[0] == 0
