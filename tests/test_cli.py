"""Every verb as a person types it: results, errors, exit codes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.markup import render
from typer.main import get_command

from smoothctl import architectures
from smoothctl.cli import app
from smoothctl.errors import DataError
from smoothctl.runs.config import TrainingConfig
from smoothctl.runs.run import Run

FAST = ["--steps", "4", "--batch-size", "64", "--set", "width=8", "--device", "cpu"]


def the_error(result: tuple[int, str, str], code: int) -> str:
    """Checks the exit code and that the error is one sentence; returns it."""
    assert result[0] == code, result
    lines = [line for line in result[2].splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result[2]
    assert "Traceback" not in result[2]
    return lines[0]


class TestHelp:
    """--help is fast because it imports nothing heavy."""

    def test_help_imports_no_torch(self) -> None:
        code = (
            "import sys\nfrom smoothctl.cli import main\nsys.argv = ['smoothctl', '--help']\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "heavy = {'torch', 'accelerate', 'datasets', 'pydantic'} & set(sys.modules)\n"
            "sys.exit(', '.join(heavy) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "fit-prior" in done.stdout

    def test_version(self, cli) -> None:
        code, out, _ = cli("--version")
        assert (code, out) == (0, "smoothctl 0.1.0\n")

    def test_version_and_what_there_is(self, cli) -> None:
        code, out, _ = cli("--version", "--verbose")
        first, versions, devices, sampler = out.splitlines()
        assert (code, first) == (0, "smoothctl 0.1.0")
        assert f"torch {torch.__version__}" in versions
        assert devices.startswith("devices: cpu")
        assert sampler.startswith("sampler of pixelcnnpp: c")

    def test_verbose_alone(self, cli) -> None:
        for arguments in (["--verbose"], ["--verbose", "kernels", "list"]):
            code, _, err = cli(*arguments)
            assert (code, err) == (2, "Error: --verbose belongs to --version.\n")

    def test_nothing_at_all_gives_help(self, cli) -> None:
        code, out, _ = cli()
        assert code == 2
        assert "fit-prior" in out

    @pytest.mark.parametrize(
        "verb",
        ["fit-prior", "fit-denoiser", "fit-joint", "fit-baseline", "sample", "denoise", "inpaint",
         "score", "sigma-heuristic", "quickstart", "reproduce", "kernels", "datasets", "plugins",
         "architectures", "features", "neighbours", "compare", "report"],
    )  # fmt: skip
    def test_every_verb_has_help(self, cli, verb: str) -> None:
        code, out, _ = cli(verb, "--help")
        assert code == 0
        assert "Usage:" in out

    def test_help_shows_every_bracket(self) -> None:
        """Help is read as markup, which takes E[x|x̃] for a style and swallows it."""
        texts, commands = [], [get_command(app)]
        while commands:
            command = commands.pop()
            commands += getattr(command, "commands", {}).values()
            texts += [command.help, *(getattr(each, "help", None) for each in command.params)]
        written = [text for text in texts if text]
        assert len(written) > 300
        shown = {text: render(text).plain for text in written}
        assert [text for text in written if shown[text] != text.replace("\\[", "[")] == []

    @pytest.mark.parametrize("verb", ["fit-prior", "fit-baseline"])
    def test_help_says_the_training_defaults(self, cli, verb: str) -> None:
        """Of what is taken for vectors and for images; the classes are not imported for it."""
        out = " ".join(cli(verb, "--help")[1].replace("│", " ").split())
        for name in ("made", "pixelcnnpp"):
            cls = architectures.load(name)
            defaults = {"batch_size": TrainingConfig().batch_size, **cls.training_defaults}
            for key in ("steps", "batch_size", "learning_rate"):
                assert f"{defaults[key]} of {name}" in out

    def test_python_dash_m(self) -> None:
        done = subprocess.run([sys.executable, "-m", "smoothctl", "--version"], capture_output=True)
        assert done.returncode == 0


class TestWholeWay:
    """fit-prior, fit-denoiser, sample, score: with defaults and with everything chosen."""

    def test_defaults_alone(self, cli) -> None:
        assert cli("fit-prior", *FAST)[0] == 0
        assert Path("runs/rings-made/prior/model.safetensors").is_file()
        code, _, err = cli("fit-denoiser", *FAST)
        assert code == 0
        assert "runs/rings-made" in err
        code, out, _ = cli("sample", "-n", "50")
        assert code == 0
        files = out.split()
        with np.load(files[0]) as arrays:
            assert arrays["samples"].shape == arrays["smoothed"].shape == (50, 2)
        assert Path(files[1]).read_bytes()[:4] == b"\x89PNG"
        few = ["--limit", "50", "--draws", "4", "--samples", "60", "--quadrature", "3"]
        code, out, _ = cli("score", *few)
        assert code == 0
        assert "true entropy" in out
        assert "energy distance" in out

    def test_json(self, cli) -> None:
        code, out, _ = cli("fit-prior", *FAST, "--sigma", "0.25", "--kernel", "uniform", "--json")
        assert code == 0
        result = json.loads(out)
        assert (result["sigma"], result["kernel"], result["steps"]) == (0.25, "uniform", 4)
        assert json.loads(cli("fit-denoiser", *FAST, "--json")[1])["stage"] == "denoiser"
        assert json.loads(cli("sample", "-n", "5", "--json")[1])["n"] == 5
        few = ["--limit", "20", "--draws", "2", "--samples", "30", "--quadrature", "0"]
        scores = json.loads(cli("score", *few, "--json")[1])
        assert scores["true_entropy"] == pytest.approx(2.6232, abs=1e-3)
        assert "learned density" in scores["not_available"]["single-step"]
        assert len(json.loads(Path("runs/rings-made/scores.json").read_text())) == 1

    def test_joint_and_baseline_and_one_dimension(self, cli) -> None:
        assert cli("fit-joint", *FAST, "--dataset", "six-modes", "--out", "j")[0] == 0
        assert cli("sample", "j", "-n", "9")[0] == 0
        assert Path("j/samples/two-step-seed0-9.png").is_file()
        assert cli("fit-baseline", *FAST, "--dataset", "six-modes", "--out", "b")[0] == 0
        code, out, _ = cli("sample", "b", "-n", "9")
        assert code == 0
        assert "baseline-seed0-9.npz" in out

    def test_quiet_says_nothing_but_the_result(self, cli) -> None:
        code, _, err = cli("fit-prior", *FAST, "--quiet")
        assert (code, err) == (0, "")

    def test_own_data(self, cli) -> None:
        np.save("mine.npy", np.random.default_rng(0).normal(size=(300, 3)))
        code, _, err = cli("fit-prior", *FAST, "--dataset", "mine.npy")
        assert code == 0
        assert "the median distance of two data points over 2√D" in err
        assert cli("fit-denoiser", *FAST)[0] == 0
        code, out, _ = cli("sample", "-n", "20")
        assert out.split() == ["runs/mine-made/samples/two-step-seed0-20.npz"]
        code, out, _ = cli("score", "--draws", "2", "--samples", "20")
        assert code == 0
        assert "true entropy: not available" in out

    def test_a_config_recreates_the_run(self, cli) -> None:
        cli("fit-prior", *FAST, "--seed", "3", "--set", "training.warmup=2", "--out", "a")
        code, _, err = cli("fit-prior", "--config", "a/prior/config.toml", "--out", "b")
        assert code == 0, err
        files = [Path(run, "prior/model.safetensors").read_bytes() for run in "ab"]
        assert files[0] == files[1]

    def test_flags_win_over_the_file(self, cli) -> None:
        Path("c.toml").write_text(
            "sigma = 0.5\nseed = 4\n[training]\nsteps = 3\n[options]\nwidth = 9"
        )
        cli("fit-prior", "--config", "c.toml", "--sigma", "0.2", "--out", "a", "--device", "cpu")
        config = Run(Path("a")).stage("prior").config()
        assert (config.sigma, config.seed, config.training.steps) == (0.2, 4, 3)
        assert config.options["width"] == 9
        text = Path("a/prior/config.toml").read_text()
        assert "sigma = 0.2 # command line" in text
        assert "seed = 4 # c.toml" in text

    def test_same_seed_same_samples(self, cli, trained_run: Run) -> None:
        for name in ("one.npz", "two.npz"):
            assert cli("sample", trained_run.path, "-n", "10", "--out", name)[0] == 0
        with np.load("one.npz") as one, np.load("two.npz") as two:
            assert (one["samples"] == two["samples"]).all()

    def test_sigma_heuristic(self, cli) -> None:
        result = json.loads(cli("sigma-heuristic", "--dataset", "rings", "--json")[1])
        assert result["sigma"] == pytest.approx(0.886, rel=0.02)
        code, out, _ = cli("sigma-heuristic", "--dataset", "rings")
        assert (code, "0.3" in out) == (0, True)
        assert "--dataset" in the_error(cli("sigma-heuristic"), 2)

    def test_sigma_of_what_cannot_be_reached(self, cli, monkeypatch) -> None:
        """The published one where there is one; otherwise why not."""
        import smoothctl.datasets as datasets

        def unreachable(*_: Any) -> None:
            raise DataError("The hub could not be reached.")

        monkeypatch.setattr(datasets, "open_dataset", unreachable)
        code, out, err = cli("sigma-heuristic", "--dataset", "cifar10")
        assert (code, "0.3" in out, "could not be reached" in err) == (0, True, True)
        assert json.loads(cli("sigma-heuristic", "--dataset", "cifar10", "--json")[1]) == {
            "dataset": "cifar10", "sigma": None, "suggested_sigma": 0.3,
        }  # fmt: skip
        for name in ("fashion-mnist", "./mine"):
            assert "could not be reached" in the_error(cli("sigma-heuristic", "--dataset", name), 1)

    def test_quickstart(self, cli) -> None:
        """As JSON; as a table the tutorial shows it."""
        code, out, err = cli("quickstart", "--steps-factor", "0.002", "--device", "cpu", "--json")
        assert code == 0, err
        told = json.loads(out)
        assert {"run", "picture", "scores"} <= told.keys()
        assert told["picture"] == "runs/quickstart/quickstart.png"

    @pytest.mark.slow
    def test_reproduce(self, cli) -> None:
        """One; test_reproduce runs the others."""
        small = ["--seeds", "0", "--steps-factor", "0.0003", "--limit", "30", "--draws", "2"]
        code, out, err = cli("reproduce", "rings", *small, "--quiet")
        assert code == 0, err
        assert "true entropy" in out
        result = json.loads(Path("runs/reproduce/rings/result.json").read_text())
        assert result["seeds"] == [0]
        assert all(isinstance(claim["holds"], bool) for claim in result["claims"])

    def test_reproduce_lists(self, cli) -> None:
        assert {"rings", "olympics", "realnvp", "inverse-u"} <= json.loads(
            cli("reproduce", "--json")[1]
        ).keys()


class TestRegistries:
    """list and show."""

    @pytest.mark.parametrize(
        ("plural", "name"),
        [("kernels", "gaussian"), ("architectures", "made"), ("datasets", "rings"),
         ("features", "pixels")],
    )  # fmt: skip
    def test_list_and_show(self, cli, plural: str, name: str) -> None:
        rows = json.loads(cli(plural, "list", "--json")[1])
        assert name in [row["name"] for row in rows]
        assert all(row["error"] is None and row["summary"] for row in rows)
        assert json.loads(cli(plural, "show", name, "--json")[1])["name"] == name
        assert name in cli(plural, "list")[1]
        assert name in cli(plural, "show", name)[1]

    def test_show_prints_the_settings(self, cli) -> None:
        out = cli("architectures", "show", "made")[1]
        assert "mixtures" in out
        assert "logistics per dimension" in out


class TestErrors:
    """One sentence, the designed exit code, nothing lost."""

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["fit-prior", "--arch", "mdae"], 2, "did you mean made"),
            (["fit-prior", "--kernel", "gauss"], 2, "did you mean gaussian"),
            (["fit-prior", "--dataset", "ring"], 2, "did you mean rings"),
            (["fit-prior", "--set", "mixture=3"], 2, "did you mean mixtures"),
            (["fit-prior", "--set", "mixtures=many"], 2, "setting 'mixtures' is wrong"),
            (["fit-prior", "--set", "mixtures=0"], 2, "greater than or equal to 1"),
            (["fit-prior", "--set", "mixtures"], 2, "KEY=VALUE"),
            (["fit-prior", "--set", "kernel.a=1"], 2, "only 'training.'"),
            (["fit-prior", "--set", "training.stepz=1"], 2, "did you mean steps"),
            (["fit-prior", "--steps", "0"], 2, "setting 'steps' is wrong"),
            (["fit-prior", "--sigma", "0"], 2, "must be positive and finite"),
            (["fit-prior", "--sigma", "-0.3"], 2, "must be positive and finite"),
            (["fit-prior", "--sigma", "nan"], 2, "must be positive and finite"),
            (["fit-prior", "--arch", "realnvp", "--dataset", "six-modes"], 2, "one dimension"),
            (["fit-joint", "--arch", "realnvp"], 1, "does not factorise"),
            (["fit-prior", "--config", "none.toml"], 2, "There is no configuration none.toml"),
            (["fit-prior", "--dataset", "none.npy"], 1, "There is no file"),
            (["fit-denoiser"], 1, "start with smoothctl fit-prior"),
            (["fit-denoiser", "--out", "none"], 1, "has no prior"),
            (["sample"], 1, "start with smoothctl fit-prior"),
            (["sample", "none"], 1, "There is no run folder"),
            (["score", "none"], 1, "There is no run folder"),
            (["fit-prior", "--dataset", "q\udcff.npy"], 2, "not valid text"),
            (["fit-prior", "--out", "x\udcffy"], 2, "not printable"),
            (["sigma-heuristic", "--dataset", "ring"], 2, "did you mean rings"),
            (["kernels", "show", "gauss"], 2, "did you mean gaussian"),
            (["reproduce", "ring"], 2, "did you mean rings"),
            (["reproduce", "rings", "--seeds", "a"], 2, "whole numbers"),
            (["reproduce", "rings", "--seeds", "0,0"], 2, "whole numbers"),
        ],
    )
    def test_bad_input(self, cli, arguments: list[str], code: int, message: str) -> None:
        fast = ["--steps", "4"] if "fit" in arguments[0] and "--steps" not in arguments else []
        assert message in the_error(cli(*arguments, *fast), code)
        assert not list(Path().rglob("*.safetensors"))

    @pytest.mark.parametrize(
        "arguments",
        [["fit-prior", "--nope"], ["nope"], ["fit-prior", "--steps", "many"],
         ["sample", "-n", "0"], ["fit-prior", "--precision", "int4"]],
    )  # fmt: skip
    def test_usage(self, cli, arguments: list[str]) -> None:
        code, _, err = cli(*arguments)
        assert code == 2
        assert "Usage:" in err

    def test_nan_data(self, cli) -> None:
        rows = np.zeros((50, 2))
        rows[3, 1] = np.nan
        np.save("bad.npy", rows)
        assert "row 3" in the_error(cli("fit-prior", "--dataset", "bad.npy"), 1)

    def test_another_configuration(self, cli) -> None:
        cli("fit-prior", *FAST)
        before = Path("runs/rings-made/prior/model.safetensors").read_bytes()
        message = the_error(cli("fit-prior", *FAST, "--seed", "1"), 1)
        assert "seed: 0 → 1" in message
        assert "--overwrite" in message
        assert Path("runs/rings-made/prior/model.safetensors").read_bytes() == before

    def test_method_that_the_run_lacks(self, cli, trained_run: Run) -> None:
        result = cli("sample", trained_run.path, "--method", "two-stp")
        assert "did you mean two-step" in the_error(result, 2)
        cli("fit-prior", *FAST)
        result = cli("sample", "runs/rings-made", "--method", "two-step")
        assert "has no denoiser; fit-denoiser --out runs/rings-made makes one" in the_error(
            result, 1
        )

    def test_samples_are_npz(self, cli, trained_run: Run) -> None:
        result = cli("sample", trained_run.path, "-n", "3", "--out", "a.csv")
        assert "written as .npz" in the_error(result, 2)

    def test_samples_replace_nothing_unasked(self, cli, trained_run: Run) -> None:
        Path("mine.png").write_text("precious")
        result = cli("sample", trained_run.path, "-n", "3", "--out", "mine.npz")
        assert "mine.png is there already" in the_error(result, 1)
        assert Path("mine.png").read_text() == "precious"
        arguments = ["sample", trained_run.path, "-n", "3", "--out", "mine.npz", "--overwrite"]
        assert cli(*arguments)[0] == 0

    def test_a_moved_data_file_costs_only_the_picture(self, cli) -> None:
        np.save("mine.npy", np.random.default_rng(0).normal(size=(300, 2)))
        cli("fit-baseline", *FAST, "--dataset", "mine.npy", "--out", "r")
        Path("mine.npy").unlink()
        code, out, err = cli("sample", "r", "-n", "5")
        assert code == 0
        assert "No picture" in err
        assert out.split() == ["r/samples/baseline-seed0-5.npz"]

    @pytest.mark.parametrize("name", ["a$b_$", "s[/x]", "[red]", "mit Leer zeichen é"])
    def test_odd_names(self, cli, name: str) -> None:
        np.save(f"{name.replace('/', '_')}.npy", np.random.default_rng(0).normal(size=(300, 2)))
        data = f"{name.replace('/', '_')}.npy"
        code, out, err = cli("fit-baseline", *FAST, "--dataset", data, "--out", name)
        assert code == 0, err
        assert name.split("/")[0] in out
        assert cli("sample", name, "-n", "5")[0] == 0
        assert cli("sigma-heuristic", "--dataset", data)[0] == 0

    def test_data_out_of_float32(self, cli) -> None:
        rows = np.random.default_rng(0).normal(size=(300, 2))
        np.save("huge.npy", rows * 1e300)
        np.save("far.npy", rows + 1e9)
        assert "rescale" in the_error(cli("sigma-heuristic", "--dataset", "huge.npy"), 1)
        assert "subtract a constant" in the_error(cli("fit-prior", "--dataset", "far.npy"), 1)

    def test_out_of_memory(self, cli) -> None:
        huge = ["--set", "width=65536", "--set", "layers=9"]
        assert "choose a smaller one" in the_error(cli("fit-prior", *huge), 2)

    @pytest.mark.parametrize("option", ["--arch", "--kernel", "--dataset"])
    def test_an_empty_name_is_unknown(self, cli, option: str) -> None:
        assert "There is no" in the_error(cli("fit-prior", *FAST, option, ""), 2)

    def test_a_setting_given_twice(self, cli) -> None:
        result = cli("fit-prior", *FAST, "--set", "width=9")
        assert "'width' is given twice" in the_error(result, 2)
        result = cli("fit-prior", *FAST, "--set", "training.steps=9")
        assert "'steps' is given twice" in the_error(result, 2)

    def test_out_in_the_way(self, cli) -> None:
        Path("file").write_text("")
        result = cli("fit-prior", *FAST, "--out", "file/run")
        assert "Cannot write" in the_error(result, 1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("sigma = 'wide'", "positive and finite, from 1e-150 to 1e+150, not 'wide'"),
            ("seed = 'x'", "setting 'seed' is wrong"),
            ("seed = -1", "setting 'seed' is wrong"),
            ("precision = 'int4'", "setting 'precision' is wrong"),
            ("dataset = 3", "must be a name in quotes"),
            ("kernel = ['a']", "must be a name in quotes"),
            ("sigma = ", "no TOML"),
            ("[training]\nsteps = 'many'", "setting 'steps' is wrong"),
            ("format = 2", "this version reads 1"),
        ],
    )
    def test_bad_config_file(self, cli, text: str, message: str) -> None:
        Path("c.toml").write_text(text)
        assert message in the_error(cli("fit-prior", "--config", "c.toml"), 2)

    def test_config_of_another_stage(self, cli) -> None:
        cli("fit-prior", *FAST)
        config = "runs/rings-made/prior/config.toml"
        assert "is of a prior" in the_error(cli("fit-baseline", "--config", config), 2)

    def test_a_bug_is_one_sentence_too(self, cli, monkeypatch) -> None:
        import smoothctl.metrics.sigma as sigma

        def broken(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError("oops")

        monkeypatch.setattr(sigma, "sigma_heuristic", broken)
        message = the_error(cli("sigma-heuristic", "--dataset", "rings"), 1)
        assert "Internal error" in message
        assert "oops" in message


@pytest.mark.slow
def test_ctrl_c_exits_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """A real process, a real signal."""
    arguments = ["fit-prior", "--steps", "3000", "--set", "width=8", "--device", "cpu"]
    arguments += ["--batch-size", "64", "--set", "training.log_every=5", "--out", "run"]
    command = [sys.executable, "-m", "smoothctl", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    log = tmp_path / "run/prior/log.jsonl"
    while time.monotonic() < deadline and not (log.is_file() and log.stat().st_size > 300):
        time.sleep(0.01)
    child.send_signal(2)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Resumes" in done.stderr
