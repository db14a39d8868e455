"""Watching a fit: previews and trackers change no weight, and show what they should."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from smoothctl.errors import UsageError
from smoothctl.runs.run import Run, load_run
from smoothctl.testing import CommandLine
from smoothctl.training.fit import Quiet, fit_denoiser, fit_prior
from smoothctl.training.preview import previews
from smoothctl.training.tracking import Tracked, check_trackers

TINY: dict[str, Any] = {"steps": 8, "batch_size": 32, "validation_limit": 32, "validate_every": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Digits with previews every three steps."""
    out = tmp_path_factory.mktemp("preview") / "run"
    small = {"filters": 4, "mixtures": 2, "blocks": 1}
    common: dict[str, Any] = {"out": out, "training": TINY, "device": "cpu", "preview": 3}
    fit_prior(dataset="digits", architecture="pixelcnnpp", options=small, **common)
    return fit_denoiser(**common)


@pytest.mark.slow
def test_samples_of_the_same_noise_at_each_step_and_the_last(run: Run) -> None:
    for name in ("prior", "denoiser"):
        kept = previews(run.stage(name))  # type: ignore[arg-type]
        assert list(kept) == [3, 6, 8]
        assert {samples.shape for samples in kept.values()} == {(16, 1, 8, 8)}
    last = previews(run.stage("denoiser"))[8]
    assert last.abs().max() <= 1
    method = run.two_step()
    assert method is not None
    assert method.denoiser is not None


@pytest.mark.slow
def test_no_weight_depends_on_it(run: Run, tmp_path: Path) -> None:
    small = {"filters": 4, "mixtures": 2, "blocks": 1}
    common: dict[str, Any] = {"out": tmp_path / "run", "training": TINY, "device": "cpu"}
    fit_prior(dataset="digits", architecture="pixelcnnpp", options=small, **common)
    fit_denoiser(**common)
    for name in ("prior", "denoiser"):
        ours, theirs = (
            folder / name / "model.safetensors" for folder in (run.path, tmp_path / "run")
        )
        assert ours.read_bytes() == theirs.read_bytes()
    assert not previews(load_run(tmp_path / "run").stage("prior"))


@pytest.mark.parametrize("stage", ["prior", "baseline", "joint"])
def test_of_vectors(stage: str, cli: CommandLine) -> None:
    told = "--dataset two-moons --steps 4 --batch-size 32 --set training.validation_limit=32"
    cli.output(
        f"fit-{stage}", *told.split(), "--preview", 2, "--out", "run", "--device", "cpu", "-q"
    )
    kept = previews(Run(Path("run")).stage(stage))  # type: ignore[arg-type]
    assert list(kept) == [2, 4]
    assert kept[4].shape == (1000, 2)


@pytest.mark.slow
def test_the_report_shows_a_strip(run: Run, tmp_path: Path, cli: CommandLine) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    cli.output("report", "copy", "--no-samples", "-q")
    page = Path("copy/report.html").read_text()
    assert page.count("samples on the way") == 2
    assert "after steps 3, 6, 8" in page


@pytest.mark.slow
def test_a_tracker_is_told_all(tmp_path: Path, cli: CommandLine) -> None:
    tensorboard = pytest.importorskip("tensorboard", reason="pip install 'smoothctl[track]'")
    del tensorboard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = "--dataset digits --arch pixelcnnpp --set filters=4 --set mixtures=2 --set blocks=1"
    train = "--steps 6 --batch-size 16 --set training.validation_limit=16"
    watch = "--preview 3 --track tensorboard --device cpu -q --out run"
    cli.output("fit-prior", *told.split(), *train.split(), *watch.split())
    cli.output("fit-denoiser", *train.split(), *watch.split())
    found = EventAccumulator(str(tmp_path / "run/track/run-denoiser"))
    found.Reload()
    tags = found.Tags()
    assert {"loss, bits/dim", "validation, bits/dim", "gain from x̃, bits/dim"} <= set(
        tags["scalars"]
    )
    assert [event.step for event in found.Scalars("loss, bits/dim")] == [1, 2, 3, 4, 5, 6]
    assert any(tag.startswith("samples") for tag in tags["images"])
    log = [json.loads(line) for line in Path("run/denoiser/log.jsonl").read_text().splitlines()]
    bits = found.Scalars("validation, bits/dim")[-1].value
    assert bits == pytest.approx(log[-1]["validation"] / (64 * 0.6931471805599453), rel=1e-5)


def test_trackers_that_are_not_there(cli: CommandLine) -> None:
    with pytest.raises(UsageError, match="did you mean tensorboard"):
        check_trackers(["tensorbord"])
    code, _, err = cli("fit-prior", "--track", "nothing")
    assert code == 2
    assert "There is no tracker 'nothing'" in err
    assert not Path("runs").exists()


def test_a_reporter_that_is_tracked_hears_everything() -> None:
    class Heard(Quiet):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def note(self, message: str) -> None:
            self.heard.append(message)

        def previewed(self, step: int, samples: torch.Tensor) -> None:
            self.heard.append(f"{step} {len(samples)}")

    inner = Heard()
    outer = Tracked(inner, [])
    outer.note("a")
    outer.previewed(3, torch.zeros(2, 1))
    assert inner.heard == ["a", "3 2"]
