"""The report: one page, self-contained, escaped, repeatable; looked at in a real browser."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from smoothctl.errors import NotAvailable
from smoothctl.reporting.figures import Frame, curves, panel, svg
from smoothctl.reporting.page import report, write_report
from smoothctl.runs.run import Run, load_run
from smoothctl.sampling.draw import Samples
from smoothctl.training.fit import fit_baseline, fit_denoiser, fit_joint, fit_prior
from tests.conftest import SMALL, TINY

EVIL = "<script>alert('x')</script> & \"ü\""
VOID = {"meta", "img", "br", "link", "hr", "input"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ESTIMATE = {"standard_error": 0.01, "examples": 100}
LIKELIHOOD = [
    {"model": "baseline", "quantity": "exact", "nats": 3.25, **ESTIMATE},
    {"model": "two-step", "quantity": "bound, 1 draw", "nats": 2.75, **ESTIMATE},
    {"model": "two-step", "quantity": "  prior term", "nats": float("nan"), **ESTIMATE},
    {"model": "two-step", "quantity": "bound, 8 draws", "nats": 2.5, **ESTIMATE},
]
ENTRY = {
    "time": "2026-01-02T03:04:05+00:00",
    "smoothctl": "0.1.0",
    "weights": "last",
    "seed": 0,
    "draws": 8,
    "samples_each": 50,
    "true_entropy": 1.5,
    "likelihood": LIKELIHOOD,
    "samples": [
        {"method": "two-step", "energy_distance": 0.25, "sliced_wasserstein": 1, "off_support": 0}
    ],
    "not_available": {"single-step": f"no {EVIL}"},
}
QUALITY = {
    "features": "inception",
    "features_sha256": "ab" * 32,
    "preprocessing": "resized to 299×299",
    "width": 2048,
    "reference": "digits (train)",
    "reference_sha256": "cd" * 32,
    "reference_count": 1000,
    "seed": 0,
    "warnings": ["Few samples."],
    "not_available": {"recall": "too few"},
    "rows": [
        {"samples": "two-step", "count": 50, "frechet_distance": 12.25, "recall": None},
        {"samples": "baseline", "count": 50, "frechet_distance": 20.5, "precision": 0.5},
        {"samples": "test images (floor)", "count": 50, "frechet_distance": 1.5},
    ],
}


class Page(HTMLParser):
    """Elements, text and the order of tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open, self.unbalanced = "", list[str](), list[str]()
        self.feed(html)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))
        self.text += " " * (tag in ("td", "th"))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def plain(self) -> str:
        return " ".join(self.text.split())


def copied(run: Run, tmp_path: Path, *entries: Any) -> Run:
    """Returns a copy of a run with given scores."""
    shutil.copytree(run.path, tmp_path / "copy")
    if entries:
        (tmp_path / "copy" / "scores.json").write_text(json.dumps(entries))
    return load_run(tmp_path / "copy")


def page(run: Run, **how: Any) -> Page:
    return Page(report(run, **{"number": 60, **how}))


def pixels(address: str | None) -> np.ndarray:
    kind, data = str(address).split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Pictures.open(io.BytesIO(base64.b64decode(data))))


def inks_of(page: Page) -> list[str]:
    """Returns what the paths of charts are drawn with: such as 'stroke second'."""
    styles = [each.get("style") or "" for each in page.of("path")]
    return [
        " ".join(found)
        for style in styles
        for found in re.findall(r"(fill|stroke): var\(--(\w+)\)", style)
    ]


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over digits with all stages, hardly fitted, and scores of image quality."""
    out = tmp_path_factory.mktemp("images") / "digits"
    options = {"blocks": 1, "filters": 4, "mixtures": 2}
    training = {"steps": 4, "batch_size": 8, "warmup": 1, "validation_limit": 16}
    common = {"out": out, "options": options, "training": training, "device": "cpu"}
    fit_prior(dataset="digits", sigma=0.4, **common)
    fit_denoiser(**common)
    fit_baseline(dataset="digits", architecture="pixelcnnpp", **common)
    likelihood = [{**each, "bits_per_dim": 1.5, "bits_per_dim_error": 0.1} for each in LIKELIHOOD]
    entry = {**ENTRY, "likelihood": likelihood, "draws": [2, 8], "quality": QUALITY}
    (out / "scores.json").write_text(json.dumps([ENTRY, entry]))
    return load_run(out)


@pytest.fixture(scope="module")
def image_page(image_run: Run) -> Page:
    return page(image_run, number=9)


@pytest.fixture
def scored(trained_run: Run, tmp_path: Path) -> Run:
    return copied(trained_run, tmp_path, ENTRY)


class TestForm:
    """HTML that stands alone."""

    @pytest.fixture(params=["vector", "image"])
    def html(self, request: pytest.FixtureRequest, scored: Run, image_run: Run) -> str:
        return report(scored if request.param == "vector" else image_run, number=9)

    def test_tags_are_balanced_and_ids_unique(self, html: str) -> None:
        found = Page(html)
        assert found.unbalanced == []
        assert html.startswith("<!DOCTYPE html>")
        ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_nothing_comes_from_elsewhere(self, html: str) -> None:
        found = Page(html)
        assert not {"script", "link", "iframe", "object", "embed", "base"} & {
            tag for tag, _ in found.elements
        }
        for tag, attributes in found.elements:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "srcset", "data"):
                address = attributes.get(name)
                where = "https://" if tag == "a" else "data:image/png;base64,"
                assert address is None or address.startswith(where), (tag, address)
        (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        assert "url(" not in style
        assert "@import" not in style

    def test_the_policy_forbids_all_but_its_own_pictures(self, html: str) -> None:
        policies = [
            each["content"]
            for each in Page(html).of("meta")
            if each.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policies == [
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            "base-uri 'none'; form-action 'none'"
        ]

    def test_it_can_be_heard(self, html: str) -> None:
        found = Page(html)
        assert found.of("html")[0]["lang"] == "en"
        assert len(found.of("h1")) == 1
        levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
        assert all(b - a <= 1 for a, b in pairwise(levels))
        assert all(each.get("alt") for each in found.of("img"))
        for each in found.of("svg"):
            decorates = each.get("aria-hidden") == "true" or "overflow" in each
            assert decorates or (each.get("role") == "img" and each.get("aria-label"))
        assert all(each.get("scope") for each in found.of("th"))
        ids = {attributes.get("id") for _, attributes in found.elements}
        assert all(each.get("aria-labelledby") in ids for each in found.of("section"))

    @pytest.mark.slow
    def test_the_same_run_gives_the_same_bytes(self, scored: Run) -> None:
        first = report(scored, number=20, seed=1)
        assert first == report(load_run(scored.path), number=20, seed=1)
        assert first != report(scored, number=20, seed=2)

    def test_it_is_small(self, image_run: Run) -> None:
        assert len(report(image_run).encode()) < 300_000


class TestContents:
    """What the page tells of a run."""

    def test_the_stages(self, scored: Run) -> None:
        text = page(scored).plain
        count = sum(p.numel() for p in scored.density("prior").parameters())
        assert f"prior made {count:,} 60 128 0 float32" in text
        assert "two-moons, smoothed by a gaussian kernel of σ = 0.3." in text
        assert text.count("complete") == 3

    def test_samples_of_every_method_beside_the_data(self, scored: Run) -> None:
        html = report(scored, number=60)
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
        assert captions[:5] == [
            "test data",
            "smoothed x̃ ~ p(x̃)",
            "single-step E[x|x̃]",
            "two-step x ~ p(x|x̃)",
            "baseline, unsmoothed",
        ]
        shown = Page(html).of("image")
        assert len(shown) == 5
        assert all(60 < (pixels(each["href"])[..., 3] > 0).sum() <= 960 for each in shown)

    def test_samples_are_those_of_the_seed(self, scored: Run) -> None:
        from smoothctl.sampling.draw import draw

        dataset = scored.dataset()
        frame = Frame.around({"data": dataset.test.head(40)}, dataset)
        x = draw(scored, "baseline", 40, 3).samples
        expected = svg(panel(x, frame), "40 points: baseline, unsmoothed.")
        assert expected in report(scored, number=40, seed=3)
        assert expected not in report(scored, number=40, seed=4)

    def test_curves_of_every_stage(self, scored: Run) -> None:
        inks = inks_of(page(scored, samples=False))
        assert inks.count("stroke first") == inks.count("stroke second") == 2 * 3

    def test_scores(self, scored: Run) -> None:
        html, text = report(scored, number=20), page(scored).plain
        assert "<strong>≤ 2.500 ± 0.010</strong>" in html
        assert "two-step prior term – 0.0100 100" in text
        assert "data true entropy 1.5000" in text
        assert "History: 1 scoring" in text
        assert "2026-01-02T03:04:05+00:00" in text
        assert "single-step: not available: no <script>" in text

    def test_quality_and_its_conditions(self, image_page: Page) -> None:
        text = image_page.plain
        assert "FID ↓" in text
        assert "two-step 1.500 ± 0.100" not in text
        assert "two-step ≤ 1.500 ± 0.100" in text
        assert "Features: inception, 2048 wide, SHA-256 abababababababab…" in text
        assert "Reference: digits (train), 1000 images, SHA-256 cdcdcdcdcdcdcdcd…" in text
        assert "Few samples." in text
        assert "recall: not available: too few" in text
        assert "History: 2 scorings" in text

    def test_many_figures_stand_in_rows(self, image_run: Run, tmp_path: Path) -> None:
        figures = dict.fromkeys(["precision", "recall", "density", "coverage", "copies"], 0.5)
        rows = [{**row, **figures} for row in QUALITY["rows"]]
        run = copied(image_run, tmp_path, {**ENTRY, "quality": {**QUALITY, "rows": rows}})
        text = page(run, samples=False).plain
        assert "figure two-step baseline true entropy test images (floor)" in text
        assert "FID ↓ 12.25 20.50 – 1.50" in text

    def test_images(self, image_page: Page, image_run: Run) -> None:
        shown = image_page.of("img")
        assert [each["alt"] for each in shown][-1].startswith("Two-step samples")
        assert len(shown) == 6
        data = pixels(shown[0]["src"])
        first = image_run.dataset().test.head(1)[0, 0]
        expected = ((first + 1) * 127.5).round().to(torch.uint8).repeat_interleave(8, 0)
        assert np.array_equal(data[:64, :64], expected.repeat_interleave(8, 1).numpy())

    def test_neighbours_are_the_nearest(self, image_page: Page, image_run: Run) -> None:
        rows = pixels(image_page.of("img")[-1]["src"])
        assert rows.shape[:2] == (8 * 66 - 2, 64 + 6 + 8 * 66 - 2)
        assert (rows[:, 66:68] == (255, 0, 0)).all()
        sample, near = (rows[:64:8, x : x + 64 : 8, 0].astype(float) for x in (0, 70))
        train = (image_run.dataset().train.head()[:, 0].double().numpy() + 1) * 127.5
        distances = ((train - sample) ** 2).sum((1, 2))
        assert ((near - sample) ** 2).sum() == pytest.approx(distances.min(), rel=1e-3)

    def test_settings_that_are_no_defaults_come_first(self, scored: Run) -> None:
        text = (scored.path / "prior/config.toml").read_text()
        mine, theirs = "mixtures = 2 # command line", "mixtures = 2 # default"
        (scored.path / "prior/config.toml").write_text(re.sub("mixtures = 2 #.*", mine, text))
        found = page(scored).plain
        assert "options.mixtures 2 command line" in found
        assert "training.beta1 0.9" not in found
        assert "beta1 = 0.9 # default" in found
        (scored.path / "prior/config.toml").write_text(re.sub("mixtures = 2 #.*", theirs, text))
        assert "options.mixtures 2 command line" not in page(scored).plain

    def test_commands(self, scored: Run) -> None:
        from smoothctl.runs.commands import fit_command, shell

        html = page(scored).text
        prior = scored.stage("prior").config()
        for stage in ("prior", "denoiser", "baseline"):
            config = scored.stage(stage).config()
            assert shell(fit_command(config, f"./{scored.path.name}", prior)) in html
        for beginning in ("smoothctl score", "smoothctl sample", "smoothctl report"):
            assert f"{beginning} ./{scored.path.name}" in html.replace(" \\\n   ", "")

    def test_one_dimension_with_the_true_density(self, tmp_path: Path) -> None:
        run = fit_joint(
            dataset="six-modes", out=tmp_path, options=SMALL, training=TINY, device="cpu"
        )
        inks = inks_of(page(run))
        assert inks.count("fill first") == 4
        assert inks.count("stroke second") == 2 * 3 + 2

    def test_three_dimensions_have_no_picture(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(80, 3)))
        common = {"out": tmp_path / "r", "options": SMALL, "training": TINY, "device": "cpu"}
        run = fit_baseline(dataset=str(tmp_path / "a.npy"), **common)
        assert "more than two dimensions have no picture" in page(run).plain

    def test_best_weights(self, scored: Run) -> None:
        text = page(load_run(scored.path, "best")).plain
        assert "of the best validation" in text
        assert "--weights best" in text

    def test_no_samples(self, scored: Run) -> None:
        assert "No samples were asked for" in page(scored, samples=False).plain


class TestMissing:
    """What is not there is said."""

    def said(self, run: Run) -> str:
        notes: list[str] = []
        text = page(run, note=notes.append).plain
        shown = [note.replace(f"{run.path.parent}/", "./") for note in notes]
        assert all(" ".join(note.split()) in text for note in shown)
        assert "What is missing" in text
        return " ".join(notes)

    def test_scores(self, trained_run: Run) -> None:
        assert f"No scores yet: smoothctl score {trained_run.path}" in self.said(trained_run)

    def test_damaged_scores(self, scored: Run) -> None:
        (scored.path / "scores.json").write_text("{")
        assert "move it away and score again" in self.said(scored)

    def test_the_denoiser(self, scored: Run) -> None:
        shutil.rmtree(scored.path / "denoiser")
        assert "has no denoiser; fit-denoiser --out" in self.said(scored)

    def test_the_prior(self, scored: Run) -> None:
        for stage in ("denoiser", "prior"):
            shutil.rmtree(scored.path / stage)
        assert "has no prior; fit-prior --out" in self.said(scored)
        assert "two-moons, without smoothing." in page(scored).plain

    def test_a_half_fitted_stage(self, scored: Run) -> None:
        (scored.path / "denoiser/model.safetensors").unlink()
        (scored.path / "denoiser/log.jsonl").write_text('{"step": 7, "loss": 1}\n{"step": 8, "lo')
        assert "the same fit-denoiser command finishes it" in self.said(scored)
        assert "not complete: step 7 of 60" in page(scored).plain

    def test_the_data(self, tmp_path: Path) -> None:
        file = tmp_path / "a.npy"
        np.save(file, np.random.default_rng(0).normal(size=(80, 2)))
        common = {"out": tmp_path / "r", "options": SMALL, "training": TINY, "device": "cpu"}
        run = fit_baseline(dataset=str(file), **common)
        file.unlink()
        assert f"beside the samples: There is no file or folder {file}" in self.said(run)
        assert len(page(run).of("image")) == 1

    def test_single_steps_of_an_unsuitable_kernel(self, tmp_path: Path) -> None:
        common = {"out": tmp_path, "options": SMALL, "training": TINY, "device": "cpu"}
        run = fit_prior(dataset="two-moons", kernel="uniform", **common)
        assert "learned density" in self.said(run)

    def test_samples_that_are_not_finite(self, scored: Run, image_run: Run, monkeypatch) -> None:
        from smoothctl.reporting import pictures

        def broken(run: Run, methods: list[str], n: int, *_: Any, **__: Any) -> dict[str, Samples]:
            shape = (n, *next(iter(run.configs().values())).event_shape)
            return dict.fromkeys(methods, Samples(torch.full(shape, torch.nan)))

        monkeypatch.setattr(pictures, "draw_all", broken)
        charts = 3
        assert len(page(scored).of("svg")) == charts + 5
        monkeypatch.setattr(pictures, "_dataset", lambda *_: None)
        assert len(page(scored).of("svg")) == charts + 4
        monkeypatch.undo()
        monkeypatch.setattr(pictures, "draw_all", broken)
        notes: list[str] = []
        page(image_run, number=9, note=notes.append)
        assert "The samples have no neighbours: 8 of the 8 images of two-step" in notes[-1]

    def test_damaged_weights(self, scored: Run) -> None:
        (scored.path / "baseline/model.safetensors").write_bytes(b"0")
        said = self.said(scored)
        assert "baseline/model.safetensors is truncated" in said
        assert "No samples: " in said

    def test_an_empty_or_foreign_log(self, scored: Run) -> None:
        log = scored.path / "prior/log.jsonl"
        log.write_text('{"step": 1, "loss": "x", "validation": NaN}\n')
        assert "There is no log." in page(scored).plain

    @pytest.mark.parametrize(
        "entry", [{}, {"likelihood": 3}, {"likelihood": [{}]}, {"quality": {}}]
    )
    def test_scores_without_their_keys(self, scored: Run, entry: Any) -> None:
        (scored.path / "scores.json").write_text(json.dumps([entry]))
        page(scored)


def test_everything_is_escaped(trained_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / EVIL.replace("/", "∕")
    shutil.copytree(trained_run.path, folder)
    for file in folder.glob("*/config.toml"):
        text = file.read_text().replace('"two-moons"', "'''/" + EVIL + "'''")
        file.write_text(text.replace("# default", f"# {EVIL}"))
    hostile = json.loads(json.dumps(ENTRY).replace("two-step", EVIL.replace('"', '\\"')))
    quality = json.loads(json.dumps(QUALITY).replace("inception", EVIL.replace('"', '\\"')))
    scores = [{**hostile, "quality": quality, "time": EVIL, "versions": {EVIL: EVIL}}]
    (folder / "scores.json").write_text(json.dumps(scores))
    html = report(load_run(folder), number=9)
    found = Page(html)
    assert found.unbalanced == []
    assert not found.of("script")
    assert "<script" not in html
    assert found.text.count("alert('x')") > 20
    write_report(load_run(folder), tmp_path / "r.html", number=9)
    assert (tmp_path / "r.html").read_bytes() == html.encode()


class TestCharts:
    """Figures as SVG in the page's ink."""

    def test_the_first_steps_do_not_flatten_a_curve(self) -> None:
        line = [(1.0, 1e6), *((float(i), 10 - i / 10) for i in range(2, 60))]
        low, high = curves({"loss": line}, "nats").axes[0].get_ylim()
        assert 3 < low < 4.1
        assert 9 < high < 11

    @pytest.mark.parametrize("line", [[(5.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)]])
    def test_flat_curves(self, line: list[tuple[float, float]]) -> None:
        assert "nan" not in svg(curves({"loss": line}, "nats"), "flat")

    def test_long_curves_are_thinned(self) -> None:
        line = [(float(i), float(i % 7)) for i in range(10_000)]
        (drawn,) = curves({"validation": line}, "nats").axes[0].lines
        assert len(drawn.get_xdata()) == 400
        assert len(svg(curves({"validation": line}, "nats"), "long")) < 30_000

    def test_points_lie_where_they_are(self) -> None:
        frame = Frame((0, 1), (0, 1), np.empty((0, 2)))
        drawn = Page(svg(panel(torch.tensor([[0.75, 0.75], [torch.nan, 0]]), frame), "points"))
        (image,), (inside,) = drawn.of("image"), drawn.of("rect")
        x, y, wide, tall = (float(image[key]) for key in ("x", "y", "width", "height"))
        left, top, width, height = (float(inside[key]) for key in ("x", "y", "width", "height"))
        across = (x + wide / 2 - left) / width
        down = (tall / 2 - y - top) / height  # the picture stands on its head
        assert (across, down) == pytest.approx((0.75, 0.25), abs=0.01)

    def test_what_a_chart_says_is_escaped_and_its_ink_the_page_s(self) -> None:
        text = svg(curves({"loss": [(1.0, 2.0), (2.0, 1.0)]}, EVIL), EVIL)
        drawn = Page(text)
        assert drawn.of("svg")[0]["aria-label"] == EVIL
        assert "<script" not in text
        assert not re.search("#[0-9a-f]{6}", text)
        assert {ink.split()[1] for ink in inks_of(drawn)} == {"first", "rule", "soft"}

    def test_without_matplotlib_the_page_says_what_it_cannot_draw(
        self, scored: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        notes: list[str] = []
        drawn = page(scored, number=9, note=notes.append)
        assert not drawn.of("svg")
        assert len(notes) == 4  # of three stages and of the samples
        assert all(note.endswith("run pip install matplotlib.") for note in notes)

    def test_without_jinja2_one_is_told_what_to_install(
        self, scored: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "jinja2", None)
        with pytest.raises(NotAvailable, match="run pip install jinja2"):
            report(scored, number=9)


class TestVerb:
    """smoothctl report."""

    @pytest.mark.slow
    def test_its_own_page_is_replaced(self, cli, scored: Run) -> None:
        few = ["-n", "9", "--device", "cpu"]
        target = scored.path / "report.html"
        assert cli.output("report", scored.path, *few).strip() == str(target)
        first = target.read_bytes()
        cli.output("report", scored.path, *few, "--seed", 1)
        assert target.read_bytes() != first

    def test_another_file_is_not(self, cli, scored: Run, tmp_path: Path) -> None:
        target = tmp_path / "mine.html"
        target.write_text("mine")
        code, _, err = cli("report", scored.path, "--out", target, "--no-samples")
        assert code == 1
        assert "--overwrite" in err
        cli.output("report", scored.path, "--out", target, "--no-samples", "--overwrite")
        assert "<h1>copy</h1>" in target.read_text()

    def test_json_and_quiet(self, cli, trained_run: Run, tmp_path: Path) -> None:
        where = ["--out", tmp_path / "a.html", "--no-samples"]
        _, out, err = cli("report", trained_run.path, *where, "--json", "--quiet")
        result = json.loads(out)
        assert result["report"] == str(tmp_path / "a.html")
        assert any("No scores yet" in sentence for sentence in result["missing"])
        assert err == ""
        assert "No scores yet" in cli("report", trained_run.path, *where, "--overwrite")[2]

    @pytest.mark.parametrize("name", ["a.pdf", "a"])
    def test_only_html(self, cli, trained_run: Run, tmp_path: Path, name: str) -> None:
        code, _, err = cli("report", trained_run.path, "--out", tmp_path / name)
        assert code == 2
        assert ".html" in err


class Browser:
    """Headless Chromium, spoken to over a pipe in the DevTools protocol.

    The environment variable REPORT_PICTURES names a folder that its pictures go to.
    """

    FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
        --disable-background-networking --disable-component-update --disable-sync
        --hide-scrollbars --remote-debugging-pipe"""

    def __init__(self, profile: Path) -> None:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        flags = [*self.FLAGS.split(), f"--user-data-dir={profile}"]
        bridge = 'exec "$@" 3<&"$IN" 4>&"$OUT"'
        self.process = subprocess.Popen(
            ["bash", "-c", bridge, "-", str(CHROMIUM), *flags],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "IN": str(theirs_in), "OUT": str(theirs_out)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb", 0)
        self.events: list[dict[str, Any]] = []
        self.rest, self.number, self.session = b"", 0, ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": values}
        if self.session:
            message["sessionId"] = self.session
        self.input.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            got = self.output.read(1 << 16)
            assert got, "Chromium ended"
            self.rest += got
        message, self.rest = self.rest.split(b"\0", 1)
        return dict(json.loads(message))

    def show(self, file: Path, width: int, dark: bool, media: str = "") -> None:
        self.events.clear()
        size = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self.ask("Emulation.setDeviceMetricsOverride", **size, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def evaluate(self, code: str) -> Any:
        answer = self.ask("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def picture(self) -> np.ndarray:
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        if "REPORT_PICTURES" in os.environ:
            name = f"{os.environ['PYTEST_CURRENT_TEST'].split('::')[-1].split(' ')[0]}.png"
            (Path(os.environ["REPORT_PICTURES"]) / name).write_bytes(base64.b64decode(data))
        with Pictures.open(io.BytesIO(base64.b64decode(data))) as image:
            return np.asarray(image.convert("RGB"))

    def close(self) -> None:
        self.session = ""
        self.ask("Browser.close")
        self.process.wait(20)
        self.input.close()
        self.output.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def file(image_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "report.html"
    write_report(image_run, target, number=16)
    return target


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium")
class TestInABrowser:
    """Rendered by Chromium, wide and on a phone, light and dark."""

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("width", [1200, 360])
    def test_it_can_be_read(self, browser: Browser, file: Path, width: int, dark: bool) -> None:
        browser.show(file, width, dark)
        wide = browser.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide == [width, width]
        picture = browser.picture()
        assert picture.shape[1] == width
        corner = picture[:8, :8].mean()
        assert corner < 50 if dark else corner > 230
        text = picture[:80].astype(float)
        assert text.std() > 5
        assert abs(text.min() - text.max()) > 150

    def test_print_is_dark_on_white(self, browser: Browser, file: Path) -> None:
        browser.show(file, 718, dark=True, media="print")
        assert browser.evaluate("document.documentElement.scrollWidth") == 718
        assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        picture = browser.picture()
        assert (np.median(picture), picture[:80].min()) == (255, 0)

    def test_nothing_is_asked_of_the_network(self, browser: Browser, file: Path) -> None:
        browser.show(file, 1200, False)
        asked = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        said = [event for event in browser.events if event["method"] == "Log.entryAdded"]
        assert said == []

    def test_every_picture_is_drawn(self, browser: Browser, file: Path) -> None:
        browser.show(file, 360, False)
        sizes = browser.evaluate("[...document.images].map(i => [i.naturalWidth, i.clientWidth])")
        assert len(sizes) == 6
        assert all(natural > 0 and 0 < drawn <= 360 for natural, drawn in sizes)

    def test_wide_tables_scroll_in_their_own_box(self, browser: Browser, file: Path) -> None:
        browser.show(file, 360, False)
        code = "[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth, b.clientWidth])"
        boxes = browser.evaluate(code)
        assert any(inner > outer for inner, outer in boxes)
        assert all(outer <= 360 for _, outer in boxes)

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_text_stands_out(self, browser: Browser, file: Path, dark: bool) -> None:
        """WCAG AA: a contrast of 4.5 between every colour of text and the page."""
        browser.show(file, 1200, dark)
        code = """[...new Set([...document.querySelectorAll('body *')]
            .filter(e => e.innerText).map(e => getComputedStyle(e).color))]
            .concat(getComputedStyle(document.body).backgroundColor)"""
        *colours, page = [list(map(int, re.findall(r"\d+", c)))[:3] for c in browser.evaluate(code)]
        assert len(colours) > 2
        for colour in colours:
            bright, dim = sorted((luminance(colour), luminance(page)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (colour, page)


def luminance(colour: list[int]) -> float:
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(colour) / 255
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
