"""`smoothctl score`: of runs and of sets of images, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from smoothctl.architectures.made import MADE
from smoothctl.datasets import open_dataset
from smoothctl.errors import RunError, UsageError
from smoothctl.evaluation import records, scores
from smoothctl.evaluation.scores import FLOOR, effort_for, score_run
from smoothctl.runs.run import Run
from smoothctl.sampling.output import write_folder

TINY = {"steps": 3, "batch_size": 16, "warmup": 1, "validation_limit": 16}
SMALL = {"filters": 4, "blocks": 1, "mixtures": 1, "scales": 1}


class TestRuns:
    """Likelihoods with several K, and samples of images judged by features."""

    @pytest.mark.slow
    def test_images(self, digits_run: Run, cli) -> None:
        words = ["score", digits_run.path, "--limit", 20, "--draws", "4,2", "--samples", 12]
        code, out, err = cli(*words, "--features", "classifier", "--json")
        assert code == 0, err
        found = json.loads(out)
        names = [e["quantity"].strip() for e in found["likelihood"] if e["model"] == "two-step"]
        assert names[-2:] == ["bound, 2 draws", "bound, 4 draws"]
        assert (found["draws"], found["limit"], found["seed"]) == ([2, 4], 20, 0)
        quality = found["quality"]
        rows = [row["samples"] for row in quality["rows"]]
        assert rows == [FLOOR, "two-step", "single-step", "baseline"]
        assert quality["features"] == "classifier"
        assert quality["details"]["held-out accuracy"] > 0.8
        assert quality["reference"] == "digits (train)"
        assert len(quality["features_sha256"]) >= 32
        assert any("biased upwards" in warning for warning in quality["warnings"])
        assert {"torch", "python", "clean-fid"} <= set(found["versions"])
        appended = json.loads((digits_run.path / "scores.json").read_text())
        assert appended[-1] == found

    def test_the_table(self, digits_run: Run, cli) -> None:
        words = ["--limit", 4, "--samples", 12, "--draws", 2]
        code, out, err = cli("score", digits_run.path, *words, "--features", "pixels")
        assert code == 0, err
        assert "test images" in out
        assert "(floor)" in out
        assert "Fréchet" in out
        assert "FID" not in out.replace("The FID", "")
        assert "inception score: not available" in out

    def test_the_whole_test_set(self, trained_run: Run) -> None:
        whole = score_run(
            trained_run, effort_for(trained_run, limit=0, draws=1, samples=0, quadrature=0)
        )
        assert whole.limit is None
        assert whole.likelihood[0].examples == len(trained_run.dataset().test)
        with pytest.raises(UsageError, match="at least 2 test examples; 0 takes all"):
            score_run(trained_run, effort_for(trained_run, limit=1))

    def test_none_leaves_images_unjudged(self, digits_run: Run, cli) -> None:
        words = ["--limit", 4, "--samples", 12, "--draws", 2, "--json"]
        code, out, _ = cli("score", digits_run.path, *words, "--features", "none")
        assert code == 0
        assert json.loads(out)["quality"] is None

    def test_another_reference(self, digits_run: Run, cli) -> None:
        words = ["--limit", 4, "--samples", 12, "--draws", 2, "--json", "--features", "pixels"]
        words += ["--reference", "digits", "--split", "validation"]
        code, out, _ = cli("score", digits_run.path, *words)
        assert code == 0
        assert json.loads(out)["quality"]["reference"] == "digits (validation)"

    def test_tighter_with_more_draws_which_are_shared(self, trained_run: Run) -> None:
        several = score_run(
            trained_run,
            effort_for(trained_run, limit=100, draws=(1, 8, 64), samples=0, quadrature=0),
        )
        alone = score_run(
            trained_run, effort_for(trained_run, limit=100, draws=64, samples=0, quadrature=0)
        )
        nats = {e.quantity: e.nats for e in several.likelihood if e.model == "two-step"}
        one, eight, many = (
            nats[name]
            for name in ("bound, 1 draw, sampled entropy", "bound, 8 draws", "bound, 64 draws")
        )
        assert one > eight > many  # Jensen's inequality, in each group of the same draws
        assert alone.likelihood[-1].nats == pytest.approx(many, abs=1e-12)

    def test_a_score_model_has_no_likelihood(
        self, trained_run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MADE, "tractable", False)
        scores = score_run(
            trained_run, effort_for(trained_run, limit=20, draws=2, samples=0, quadrature=0)
        )
        assert scores.likelihood == []
        for name in ("baseline likelihood", "two-step bound"):
            assert "has neither a likelihood nor a bound of it" in scores.not_available[name]


class TestFaults:
    """No figures are lost, and nothing is computed in vain."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--features", "inception"], "weights are not at hand"),
            (["--reference", "other.npz"], "make them equal"),
        ],
    )
    def test_what_cannot_be_compared_is_said_before_the_work(
        self, digits_run: Run, cli, in_tmp: Path, words: list[str], said: str, monkeypatch
    ) -> None:
        monkeypatch.delenv("SMOOTHCTL_INCEPTION", raising=False)
        monkeypatch.setattr(scores, "plain_likelihood", lambda *_, **__: pytest.fail("in vain"))
        np.savez("other.npz", samples=np.zeros((5, 1, 9, 8), np.float32))
        code, out, err = cli("score", digits_run.path, *words)
        assert (code, out) == (1, "")
        assert said in err

    @pytest.mark.parametrize("words", [["--features", "pixels"], ["--reference", "digits"]])
    def test_vectors_have_no_features(self, trained_run: Run, cli, words: list[str]) -> None:
        code, _, err = cli("score", trained_run.path, *words)
        assert code == 2
        assert "models vectors: --features and --reference are for images" in err

    def test_a_damaged_list_is_said_before_the_work(
        self, trained_run: Run, cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = trained_run.path / "scores.json"
        file.write_text("{")
        monkeypatch.setattr(scores, "score_run", lambda *_, **__: pytest.fail("worked in vain"))
        code, out, err = cli("score", trained_run.path)
        assert (code, out, file.read_text()) == (1, "", "{")
        assert "move it away" in err
        file.unlink()

    @pytest.mark.slow
    def test_a_full_disk_still_prints(
        self, trained_run: Run, cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, value: object) -> None:
            raise RunError(f"Cannot write {path}: No space left on device.")

        monkeypatch.setattr(records, "write_json", full)
        words = ["--limit", 20, "--draws", 2, "--samples", 20, "--quadrature", 0, "--json"]
        code, out, err = cli("score", trained_run.path, *words)
        assert code == 1
        assert len(json.loads(out)["likelihood"]) == 6
        assert "No space left" in err


class TestImages:
    """Any two sets."""

    @pytest.fixture
    def samples(self, tmp_path: Path) -> Path:
        write_folder(tmp_path / "samples", open_dataset("digits").train.head(40))
        return tmp_path / "samples"

    def test_a_folder_against_a_dataset(self, samples: Path, cli) -> None:
        words = ["score", samples, "--reference", "digits", "--features", "pixels"]
        code, out, err = cli(*words, "--json")
        assert code == 0, err
        result = json.loads(out)
        rows = {row["samples"]: row for row in result["rows"]}
        assert rows[str(samples)]["copies"] == 1
        assert rows[FLOOR]["count"] == rows[str(samples)]["count"] == 40
        assert {"time", "versions", "seed"} <= set(result)
        assert json.loads(cli(*words, "--json")[1])["rows"] == result["rows"]
        assert "coverage" in cli(*words)[1]

    def test_two_folders(self, samples: Path, tmp_path: Path, cli) -> None:
        write_folder(tmp_path / "others", -open_dataset("digits").train.head(40))
        code, out, _ = cli("score", samples, "--reference", tmp_path / "others", "--json")
        assert code == 0
        result = json.loads(out)
        assert result["features"] == "pixels"
        assert result["rows"][0]["coverage"] == 0
        assert "memorisation" in result["not_available"]

    def test_an_array_file_as_reference_has_no_test_images(
        self, samples: Path, tmp_path: Path, cli
    ) -> None:
        np.savez(tmp_path / "r.npz", samples=open_dataset("digits").test.head(50).numpy())
        code, out, _ = cli("score", samples, "--reference", tmp_path / "r.npz", "--json")
        assert code == 0
        result = json.loads(out)
        assert [row["samples"] for row in result["rows"]] == [str(samples)]
        assert "memorisation" in result["not_available"]

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--limit", "5"], "--limit is for runs"),
            (["--draws", "5"], "--draws is for runs"),
            (["--weights", "best"], "--weights is for runs"),
            (["--features", "none"], "--features none compares no images"),
            (["--feature-sha256", "ab", "--features", "pixels"], "take no weights"),
            (["--features", "pixel"], "did you mean pixels"),
            (["--split", "tests"], "did you mean test"),
            (["--data", "size=12"], "digits has no settings"),
        ],
    )
    def test_options_that_make_no_sense(
        self, samples: Path, words: list[str], sentence: str, cli
    ) -> None:
        code, _, err = cli("score", samples, "--reference", "digits", *words)
        assert code == 2
        assert sentence in " ".join(err.split())

    def test_a_reference_is_needed(self, samples: Path, cli) -> None:
        code, _, err = cli("score", samples)
        assert code == 2
        assert "is no run folder: name the images to compare with by --reference" in err
        code, _, err = cli("score", samples.parent / "typo")
        assert code == 1
        assert "There is no run folder" in err
        code, _, err = cli("score", samples, "--split", "test")
        assert code == 2
        assert "--split is of the reference" in err

    def test_what_is_no_images(self, tmp_path: Path, cli) -> None:
        np.savez(tmp_path / "nan.npz", samples=np.full((5, 1, 8, 8), np.nan, np.float32))
        np.savez(tmp_path / "other.npz", samples=np.zeros((5, 1, 9, 8), np.float32))
        (tmp_path / "empty").mkdir()
        for name, sentence in [
            ("nan.npz", "5 of the 5 images of"),
            ("other.npz", "holds images of 1×9×8 and digits (train) of 1×8×8"),
            ("empty", "holds no images"),
            ("missing", "no file or folder"),
        ]:
            code, out, err = cli("score", tmp_path / name, "--reference", "digits")
            assert (code, out) == (1, "")
            assert sentence in err
            assert "Traceback" not in err

    @pytest.mark.parametrize("text", ["0", "2,x", "", "-3", "2,,4"])
    def test_draws_are_whole_numbers(self, text: str) -> None:
        from smoothctl.cli.score import _counts

        with pytest.raises(UsageError, match="whole numbers"):
            _counts(text)
        assert _counts("2, 8") == [2, 8]


def test_a_half_fitted_run_is_no_set_of_images(tmp_path: Path, cli) -> None:
    (tmp_path / "run" / "prior").mkdir(parents=True)
    (tmp_path / "run" / "prior" / "config.toml").write_text("")
    code, _, err = cli("score", tmp_path / "run")
    assert code == 1
    assert "config.toml is empty" in err
    assert torch.is_grad_enabled()
