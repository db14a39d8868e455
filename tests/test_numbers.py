"""Numbers at their extremes, wherever a person can give one: a sentence or a result."""

import math
import shutil
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothctl.architectures.made import MADE
from smoothctl.cli import app
from smoothctl.config import LARGEST_INTEGER, build
from smoothctl.errors import UsageError
from smoothctl.metrics import two_sample
from smoothctl.rng import generator
from smoothctl.runs.config import StageConfig, TrainingConfig, to_toml
from smoothctl.runs.run import Run
from smoothctl.sampling.draw import draw
from smoothctl.smoothing import batching, bounds
from smoothctl.storage.files import read_toml
from smoothctl.testing import CommandLine
from smoothctl.training.fit import FitSettings, Quiet
from smoothctl.training.schedule import learning_rate
from smoothctl.training.settings import resolve
from tests.doubles import Latent

HUGE = 10**30
LONG = "9" * 400
MIN, MAX = "made: the setting", "whole numbers are at most 9223372036854775807"


def check_sentence(found: tuple[int, str, str], *words: str) -> None:
    code, out, err = found
    assert (code, out) == (2, ""), err
    assert "Internal" not in err
    for word in words:
        assert word in " ".join(err.replace("│", " ").split()), err


class TestDrawing:
    """What is drawn: as much as memory holds, a part at a time, or a sentence before any work."""

    @pytest.mark.parametrize("count", [10**9, HUGE, LONG])
    @pytest.mark.parametrize(
        "words",
        [
            ["sample", "{}", "--out", "a.npz", "-n"],
            ["denoise", "test", "{}", "-n", 2, "--out", "a.npz", "--draws"],
            ["inpaint", "test", "{}", "-n", 2, "--out", "a.npz", "--draws"],
        ],
    )
    def test_more_than_memory_holds(
        self, trained_run: Run, cli: CommandLine, words: list[object], count: object
    ) -> None:
        found = cli(*(str(word).format(trained_run.path) for word in words), count)
        check_sentence(found, "GiB of memory", "draw at most", "in all")
        assert list(Path().iterdir()) == []

    def test_more_than_memory_holds_of_images(self, digits_run: Run, cli: CommandLine) -> None:
        run = shutil.copytree(digits_run.path, "run")
        for words in (["sample", run, "-n"], ["neighbours", run, "-n"]):
            check_sentence(cli(*words, HUGE), "GiB of memory", "draw at most")
        check_sentence(cli("neighbours", run, "-n", 2, "-k", HUGE), "neighbours are 1 to")

    def test_a_report_goes_without(self, trained_run: Run, cli: CommandLine) -> None:
        code, _, err = cli("report", trained_run.path, "-n", HUGE, "--out", "a.html")
        assert code == 0
        assert "No samples: The samples would take" in err

    def test_what_memory_holds_is_drawn_in_parts(
        self, trained_run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond a constant number; each part is what the generator gives next."""
        whole = draw(trained_run, "two-step", 150, seed=3)
        prior, stream = trained_run.density("prior"), generator(3, "smoothed")
        assert torch.equal(whole.smoothed, prior.sample(150, generator=stream))
        monkeypatch.setattr(batching, "_MOST_VECTORS", 64)
        parts = draw(trained_run, "two-step", 150, seed=3)
        stream = generator(3, "smoothed")
        cut = torch.cat([prior.sample(k, generator=stream) for k in (64, 64, 22)])
        assert torch.equal(parts.smoothed, cut)
        assert parts.samples.shape == (150, 2)

    def test_what_is_free_may_be_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batching, "_free_ram", lambda: 2**20)
        density = MADE((2,))
        row = batching._COPIES * 2 * 4
        batching.check_room(density, 2**20 // row)
        with pytest.raises(UsageError, match=f"draw at most {2**20 // row // 3:,} in all"):
            batching.check_room(density, 2**20 // row, 3)

    def test_a_batch_that_memory_does_not_hold(
        self, digits_run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        density = digits_run.density("prior")
        monkeypatch.setattr(batching, "_free_ram", lambda: 10 * density.bytes_per_example())
        assert batching.images_at_once(density, 10, 50) == 50
        with pytest.raises(UsageError, match="At most 10 of these images"):
            batching.images_at_once(density, 11, 50)


class TestScoring:
    @pytest.mark.parametrize("option", ["--draws", "--samples"])
    @pytest.mark.parametrize("count", [10**9, HUGE])
    def test_more_than_memory_holds(
        self, trained_run: Run, cli: CommandLine, option: str, count: int
    ) -> None:
        check_sentence(cli("score", trained_run.path, option, count), "1,048,576", option)

    @pytest.mark.parametrize("count", [LONG, "9" * 5000])
    def test_absurd_draws(self, trained_run: Run, cli: CommandLine, count: str) -> None:
        found = cli("score", trained_run.path, "--draws", count)
        check_sentence(found, "--draws takes whole numbers from 1")
        assert len(found[2]) < 300

    def test_of_experiments(self, cli: CommandLine) -> None:
        check_sentence(cli("reproduce", "rings", "--draws", HUGE), "1,048,576", "--draws")

    def test_many_draws_of_latent_variables_are_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        density = Latent((2,)).double().requires_grad_(False)
        x = density.sample(5, generator=generator("x"))
        few = bounds.latent_bound(density, x, 8, generator("z"))
        assert torch.equal(few, density.bound(x, draws=8, generator=generator("z")))
        monkeypatch.setattr(bounds, "_LATENT_ROWS", 8)
        stream = generator("z")
        parts = [density.bound(x, draws=k, generator=stream) + math.log(k) for k in (8, 8, 4)]
        expected = torch.stack(parts).logsumexp(0) - math.log(20)
        cut = bounds.latent_bound(density, x, 20, generator("z"))
        assert torch.allclose(cut, expected, atol=1e-12)

    def test_distances_are_taken_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, y = (torch.randn(300, 2, generator=generator(key)) for key in "xy")
        whole = two_sample.energy_distance(x, y)
        monkeypatch.setattr(two_sample, "_AT_ONCE", 70)
        assert two_sample.energy_distance(x, y) == pytest.approx(whole, abs=1e-12)


class TestSeeds:
    @pytest.mark.parametrize("seed", [2**63, LONG])
    @pytest.mark.parametrize("verb", [["sample"], ["score"], ["fit-prior", "--out"]])
    def test_no_file_could_hold_it(
        self, trained_run: Run, cli: CommandLine, verb: list[str], seed: object
    ) -> None:
        folder = "run" if verb[0].startswith("fit") else trained_run.path
        check_sentence(cli(*verb, folder, "--seed", seed), "a seed is a whole number from 0 to")
        assert list(Path().iterdir()) == []

    def test_from_python(self, in_tmp: Path) -> None:
        with pytest.raises(UsageError, match="'seed' is wrong"):
            resolve("prior", FitSettings(seed=2**63, out="run", device="cpu"), Quiet())

    def test_the_largest(self, trained_run: Run) -> None:
        assert draw(trained_run, "baseline", 2, seed=LARGEST_INTEGER).samples.isfinite().all()


class TestFits:
    """Refused before a run folder is made: what is there can always be opened."""

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--set", f"width={'9' * 40}"], "'width' is wrong"),
            (["--set", f"order_seed={'9' * 40}"], MAX),
            (["--set", f"training.warmup={'9' * 400}"], "'warmup' is wrong"),
            (["--set", f"training.keep={'9' * 40}"], MAX),
            (["--steps", "9" * 40], MAX),
            (["--batch-size", "9" * 40], MAX),
            (["--data", f"columns={'9' * 40}"], "has no settings"),
            (["--learning-rate", "nan"], "'learning_rate' is wrong"),
            (["--set", "min_log_scale=3"], "min_log_scale=3 is above max_log_scale=1"),
            (["--set", "min_log_scale=-1e300"], "'min_log_scale' is wrong"),
            (["--set", "output_gain=1e300"], "'output_gain' is wrong"),
            (["--arch", "logistic-mixture", "--set", "max_log_scale=-8"], "is above"),
            (["--arch", "realnvp", "--set", "scale_cap=1e-300"], "'scale_cap' is wrong"),
            (["--sigma", "nan"], "must be positive and finite"),
            (["--sigma", "inf"], "must be positive and finite"),
            (["--sigma", "1e-300"], "must be positive and finite"),
            (["--sigma", "1e-12"], "is lost in the last digits of the data"),
            (["--sigma", "1e20"], "smooths the data beyond"),
        ],
    )
    def test_what_cannot_be(self, cli: CommandLine, flags: list[str], words: str) -> None:
        check_sentence(cli("fit-prior", "--dataset", "two-moons", "--out", "run", *flags), words)
        assert list(Path().iterdir()) == []

    @pytest.mark.parametrize("dataset", ["two-moons", "digits"])
    def test_a_sigma_that_the_data_resolve(self, in_tmp: Path, dataset: str) -> None:
        """Twice the distance of neighbouring numbers is enough, whatever they are."""
        common = {"dataset": dataset, "out": "run", "device": "cpu"}
        resolve("prior", FitSettings(**common, sigma=3e-7), Quiet())
        resolve("prior", FitSettings(**common, sigma=1e-12, precision="float64"), Quiet())
        with pytest.raises(UsageError, match="float64"):
            resolve("prior", FitSettings(**common, sigma=1e-18, precision="float64"), Quiet())


def _changes() -> st.SearchStrategy[dict[str, object]]:
    hints = get_type_hints(TrainingConfig)
    values = {
        bool: st.booleans(),
        int: st.one_of(st.integers(), st.sampled_from([2**62, 2**63, 10**40])),
        float: st.one_of(st.floats(), st.floats(0, 1), st.sampled_from([1e-300, 1e300])),
    }
    known = {
        f.name: values[hints[f.name]] for f in fields(TrainingConfig) if hints[f.name] in values
    }
    return st.fixed_dictionaries({}, optional=known)


@settings(max_examples=50, deadline=None)
@given(_changes())
def test_settings_of_training_can_be_read_again(
    tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, object]
) -> None:
    """Whatever is accepted: its file is read as it was written, and gives a rate to each step."""
    try:
        training = build(TrainingConfig, chosen, "training")
    except UsageError as said:
        assert "training" in str(said)
        return
    common = {"stage": "baseline", "dataset": "x", "event_shape": (2,), "architecture": "made"}
    stage = StageConfig(**common, training=training)
    file = tmp_path_factory.getbasetemp() / "config.toml"
    file.write_text(to_toml(stage, {}))
    assert StageConfig.from_dict(read_toml(file, 2**16), "a file") == stage
    for step in {0, 1, training.steps // 2, training.steps - 1}:
        assert 0 <= learning_rate(step, training) <= training.learning_rate


@pytest.mark.slow
def test_every_number_of_every_verb(
    trained_run: Run, digits_run: Run, cli: CommandLine, subtests: pytest.Subtests
) -> None:
    """Zero, less than zero, a billion, thirty digits and five thousand: never an internal error."""
    run, images = trained_run.path, digits_run.path
    small = {
        "sample": [run, "-n", 5, "--overwrite", "--out", "a.npz"],
        "denoise": ["test", run, "--overwrite", "--out", "a.npz"],
        "inpaint": ["test", run, "--overwrite", "--out", "a.npz"],
        "score": [run, "--limit", 20, "--draws", 2, "--samples", 10, "--quadrature", 2],
        "report": [run, "--no-samples", "--out", "a.html", "--overwrite"],
        "neighbours": [images, "--overwrite", "--out", "a.npz"],
        "sigma-heuristic": ["--dataset", "rings"],
        "fit-prior": ["--steps", 1, "--set", "width=0", "--out", "run"],
        "fit-joint": ["--steps", 1, "--set", "width=0", "--out", "run"],
        "fit-baseline": ["--steps", 1, "--set", "width=0", "--out", "run"],
        "fit-denoiser": ["--steps", 1, "--set", "width=0", "--out", run],
        "reproduce": ["rings", "--seeds", -1],
        "plugins": [],
    }
    tried = 0
    for verb, words in small.items():
        for option in typer.main.get_command(app).commands[verb].params:
            if not any(kind in str(option.display_type(None)) for kind in ("int", "float")):
                continue
            for value in (0, -1, 10**9, HUGE, LONG, "9" * 5000, "nan", "1e400"):
                if verb == "score" and option.name in ("limit", "quadrature") and value != "nan":
                    continue  # all examples, which takes minutes
                code, _, err = cli(verb, *words, f"{option.opts[-1]}={value}")
                with subtests.test(verb=verb, option=option.opts[-1], value=str(value)[:40]):
                    assert code in (0, 1, 2)
                    assert not any(s in err for s in ("Internal", "Traceback", "Out of memory"))
                tried += 1
    print(f"{tried} numbers")
