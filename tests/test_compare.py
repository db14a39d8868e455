"""Side by side: columns, the best among the comparable, notes, published rows, and the verb."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smoothctl.errors import RunError
from smoothctl.evaluation.compare import compare, of_records
from smoothctl.evaluation.measurements import Measure, Measurement, latest
from smoothctl.evaluation.published import PUBLISHED
from smoothctl.evaluation.records import read_scores
from smoothctl.reporting.scores import comparison_table, shown
from smoothctl.reporting.tables import markdown
from smoothctl.runs.run import Run, load_run
from smoothctl.storage.weights import read_weights, write_weights

Make = Callable[..., Run]


def estimate(model: str, quantity: str, nats: float, **more: Any) -> dict[str, Any]:
    rest = {"standard_error": 0.01, "examples": 100, "bits_per_dim": None}
    return {"model": model, "quantity": quantity, "nats": nats, **rest, **more}


def statistics(method: str, energy: float, off: float | None = 0.5) -> dict[str, Any]:
    values = {"energy_distance": energy, "sliced_wasserstein": 2 * energy, "off_support": off}
    return {"method": method, **values}


def entry(likelihood: Any = (), samples: Any = (), **more: Any) -> dict[str, Any]:
    rest = {"weights": "last", "seed": 0, "draws": 8, "samples_each": 50, "true_entropy": None}
    return {**rest, "likelihood": list(likelihood), "samples": list(samples), **more}


def quality(fid: float | None, features: str = "inception", **more: Any) -> dict[str, Any]:
    row = {"samples": "two-step", "count": 50, "frechet_distance": fid, "precision": 0.5}
    floor = {"samples": "test images (floor)", "count": 50, "frechet_distance": 1.5}
    shared = {"features_sha256": "ab" * 32, "reference": "cifar10 (train)", "warnings": []}
    rows = [{**row, **more.pop("row", {})}, floor]
    return {"features": features, **shared, "reference_count": 9, "rows": rows, **more}


@pytest.fixture
def make(trained_run: Run, tmp_path: Path) -> Make:
    """Makes a run with given scores; configurations may be changed."""

    def of(name: str, *entries: dict[str, Any], **changes: Any) -> Run:
        folder = tmp_path / name
        shutil.copytree(trained_run.path, folder)
        for file in folder.glob("*/model.safetensors"):
            tensors, config = read_weights(file)
            changed = {key: value for key, value in changes.items() if key in config}
            write_weights(file, tensors, config | changed)
        if entries:
            (folder / "scores.json").write_text(json.dumps(entries))
        return load_run(folder)

    return of


def cells(run_or_table: Any, model: str, run: str | None = None) -> dict[str, Any]:
    rows = [r for r in run_or_table.rows if r.model == model and run in (None, r.run)]
    assert len(rows) == 1, [(r.run, r.model) for r in run_or_table.rows]
    return dict(rows[0].cells)


class TestTable:
    """What a row is made of, and what is compared."""

    def test_the_tightest_figure_of_each_model(self, make: Make) -> None:
        bounds = [
            estimate("two-step", "bound, 1 draw", 2.5),
            estimate("two-step", "  prior term", 9.0),
            estimate("two-step", "bound, 64 draws", 2.25),
            estimate("two-step", "bound, 8 draws", 2.3),
        ]
        exact = estimate("two-step", "exact, by quadrature", 2.0, examples=3)
        (table,) = compare([make("a", entry(bounds, true_entropy=1.5))])
        found = cells(table, "two-step")["nats"]
        assert (found.value, found.bound) == (2.25, 64)
        assert shown(found, table.columns[0]) == "≤ 2.250 ± 0.010"
        assert cells(table, "true entropy")["nats"].value == 1.5
        (table,) = compare([make("b", entry([*bounds, exact]))])
        found = cells(table, "two-step")["nats"]
        assert (found.value, found.bound) == (2.0, 0)
        assert found.conditions == {"test examples": 100}

    def test_bits_of_images(self, make: Make) -> None:
        bits = estimate("baseline", "exact", 600.0, bits_per_dim=1.25, bits_per_dim_error=0.5)
        (table,) = compare([make("a", entry([bits]))])
        assert [column.title for column in table.columns] == ["bits/dim ↓"]
        assert cells(table, "baseline")["bits"].value == 1.25

    def test_only_columns_with_figures(self, make: Make) -> None:
        run = make("a", entry([], [statistics("two-step", 0.1, None)]))
        (table,) = compare([run])
        assert [c.key for c in table.columns] == ["energy_distance", "sliced_wasserstein"]

    def test_the_newest_of_each_kind(self, make: Make) -> None:
        entries = [
            entry([estimate("baseline", "exact", 3.0)], [statistics("baseline", 0.3)]),
            entry([estimate("baseline", "exact", 2.0)]),
            entry([], quality=None),
        ]
        (table,) = compare([make("a", *entries)])
        found = cells(table, "baseline")
        assert (found["nats"].value, found["energy_distance"].value) == (2.0, 0.3)
        assert latest(entries, "quality") is None

    def test_the_best_in_each_direction(self, make: Make) -> None:
        a = entry(quality=quality(20.0, row={"precision": 0.4, "kernel_distance": 0.01}))
        b = entry(quality=quality(10.0, row={"precision": 0.3, "kernel_distance": 0.01}))
        (table,) = compare([make("a", a), make("b", b)], published=False)
        mine, theirs = cells(table, "two-step", "a"), cells(table, "two-step", "b")
        fid, precision, kid = (
            f"inception:{k}" for k in ("frechet_distance", "precision", "kernel_distance")
        )
        assert (mine[fid].best, theirs[fid].best) == (False, True)
        assert (mine[precision].best, theirs[precision].best) == (True, False)
        assert mine[kid].best
        assert theirs[kid].best
        floor = cells(table, "test images (floor)")[fid]
        assert (floor.value, floor.best, floor.note) == (1.5, False, "")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"row": {"count": 10}}, "samples 10 instead of 50"),
            ({"features_sha256": "cd" * 32}, "weights of the features cdcdcdcdcdcd instead"),
            ({"reference": "else"}, "reference else instead of cifar10"),
            ({"reference_count": 8}, "reference images 8 instead of 9"),
            ({"preprocessing": "other"}, "preprocessing other instead of None"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_what_was_measured_otherwise_is_not_compared(self, make: Make, change, said) -> None:
        runs = [make(name, entry(quality=quality(20.0))) for name in "ab"]
        runs += [make("c", entry(quality=quality(1.0, **change)))]
        (table,) = compare(runs, published=False)
        odd = cells(table, "two-step", "c")["inception:frechet_distance"]
        assert (odd.best, odd.note) == (False, "a")
        assert cells(table, "two-step", "a")["inception:frechet_distance"].best
        assert any(note.startswith("[a] not compared: ") and said in note for note in table.notes)

    def test_distances_below_zero_are_equally_good(self, make: Make) -> None:
        runs = [
            make(f"e{i}", entry([], [statistics("baseline", energy)]))
            for i, energy in enumerate([-0.5, -0.25, 0.5])
        ]
        (table,) = compare(runs)
        assert [row.cells["energy_distance"].best for row in table.rows] == [True, True, False]
        assert [row.cells["sliced_wasserstein"].best for row in table.rows] == [True, False, False]

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.123456, "0.123"), (-1781.3, "−1781.3"), (29583.2, "29583"), (0, "0.000")],
    )
    def test_no_more_digits_than_mean_something(self, value: float, text: str) -> None:
        assert shown(Measurement(value), Measure("k", "k", "", 3)) == text

    def test_a_figure_alone_is_not_the_best(self, make: Make) -> None:
        (table,) = compare([make("a", entry([estimate("baseline", "exact", 3.0)]))])
        assert not cells(table, "baseline")["nats"].best

    def test_bounds_of_different_draws_are_told_apart(self, make: Make) -> None:
        runs = [
            make(f"k{k}", entry([estimate("two-step", f"bound, {k} draws", 2.0)])) for k in (4, 256)
        ]
        (table,) = compare(runs)
        assert "≤: a bound with 4 or 256 draws; with more draws it is tighter" in table.notes[0]

    def test_names_of_figures_follow_the_features(self, make: Make) -> None:
        runs = [
            make("a", entry(quality=quality(20.0, "classifier"))),
            make("b", entry(quality=quality(10.0))),
        ]
        (table,) = compare(runs, published=False)
        titles = [column.title for column in table.columns]
        assert "Fréchet distance (classifier) ↓" in titles
        assert "FID ↓" in titles
        assert {"precision (classifier) ↑", "precision (inception) ↑"} <= set(titles)
        assert "precision ↑" in [c.title for c in compare(runs[:1])[0].columns]
        assert not any(c.best for row in table.rows for c in row.cells.values())

    def test_values_that_are_no_numbers_are_left_out(self, make: Make) -> None:
        odd = estimate("baseline", "exact", float("nan"))
        run = make("a", entry([odd], [statistics("baseline", 0.1)], quality=quality(None)))
        (table,) = compare([run], published=False)
        keys = {key for row in table.rows for key in row.cells}
        assert "nats" not in keys
        assert "inception:precision" in keys

    def test_best_weights_are_named(self, make: Make) -> None:
        run = make("a", entry([estimate("baseline", "exact", 3.0)], weights="best"))
        assert compare([run])[0].rows[0].model == "baseline, best weights"

    def test_one_run_alone(self) -> None:
        assert of_records([]).rows == []
        table = of_records([entry([estimate("baseline", "exact", 1.0)])], "b")
        assert [(row.run, row.model) for row in table.rows] == [("b", "baseline")]


class TestData:
    """Runs of several datasets, published figures, several seeds."""

    def test_a_section_for_each_dataset(self, make: Make) -> None:
        scores = entry([estimate("baseline", "exact", 3.0)])
        runs = [make("a", scores), make("b", scores, dataset="pinwheel"), make("c", scores)]
        first, second = compare(runs)
        assert (first.dataset, [row.run for row in first.rows]) == ("two-moons", ["a", "c"])
        assert (second.dataset, [row.run for row in second.rows]) == ("pinwheel", ["b"])

    def test_published_rows_stand_below_and_are_not_compared(self, make: Make) -> None:
        runs = [
            make(name, entry(quality=quality(fid)), dataset="cifar10")
            for name, fid in [("a", 20.0), ("b", 90.0)]
        ]
        (table,) = compare(runs)
        published = [row for row in table.rows if row.kind == "published"]
        assert [row.model for row in published] == [
            p.model for p in PUBLISHED["cifar10"] if p.fid is not None
        ]
        assert not any(cell.best for row in published for cell in row.cells.values())
        assert cells(table, "two-step", "a")["inception:frechet_distance"].best
        assert published[-1].cells["inception:frechet_distance"].value == 25.32
        assert any("for orientation" in note for note in table.notes)
        assert not [r for r in compare(runs, published=False)[0].rows if r.kind == "published"]

    def test_no_published_rows_beside_other_features(self, make: Make) -> None:
        scores = entry(quality=quality(9.0, "pixels"))
        (table,) = compare([make("a", scores, dataset="cifar10")])
        assert not [row for row in table.rows if row.kind == "published"]

    def test_every_published_figure_has_a_source(self) -> None:
        for figures in (figures for rows in PUBLISHED.values() for figures in rows):
            assert figures.source
            assert figures.address.startswith("https://")
            values = (figures.fid, figures.inception_score, figures.bits_per_dim, figures.nats)
            assert any(value is not None for value in values)

    def test_published_likelihoods_stand_beside_those_of_the_same_data(self, make: Make) -> None:
        scores = entry([estimate("baseline", "exact", 2.7)])
        rings, olympics = compare([make(n, scores, dataset=n) for n in ("rings", "olympics")])
        cells = {row.model: row.cells for row in rings.rows if row.kind == "published"}
        assert (cells["MADE-3"]["nats"].value, cells["MADE-3"]["nats"].bound) == (3.26, 0)
        two_step = cells["two-step, 3 logistics"]["nats"]
        assert (two_step.value, two_step.bound) == (2.71, 1)
        assert not [row for row in olympics.rows if row.kind == "published"]

    def test_the_mean_of_seeds(self, make: Make) -> None:
        runs = [
            make(f"s{seed}", entry([estimate("baseline", "exact", nats)]), seed=seed)
            for seed, nats in [(0, 3.0), (1, 4.0)]
        ]
        runs += [make("other", entry([estimate("baseline", "exact", 9.0)]), kernel="laplace")]
        (table,) = compare(runs, average=True)
        mean = cells(table, "baseline", "s0 and 1 more")["nats"]
        assert (mean.value, mean.error) == (3.5, 0.5)
        assert cells(table, "baseline", "other")["nats"].value == 9.0

    def test_seeds_of_a_version_without_a_setting_are_averaged_too(self, make: Make) -> None:
        scores = entry([estimate("baseline", "exact", 3.0)])
        older = {"mixtures": 2, "width": 16}
        runs = [make("s0", scores, seed=0, options=older), make("s1", scores, seed=1)]
        assert len(compare(runs, average=True)[0].rows) == 1
        wider = {**older, "width": 17}
        runs = [make("s2", scores, seed=0, options=wider), make("s3", scores, seed=1)]
        assert len(compare(runs, average=True)[0].rows) == 2

    def test_seeds_measured_differently_are_not_averaged(self, make: Make) -> None:
        runs = [
            make(f"s{n}", entry([estimate("baseline", "exact", 3.0, examples=n)])) for n in (5, 6)
        ]
        assert len(compare(runs, average=True)[0].rows) == 2

    def test_folders_of_one_name_are_told_apart(self, make: Make, tmp_path: Path) -> None:
        scores = entry([estimate("baseline", "exact", 3.0)])
        a, b = make("x/moons", scores), make("y/moons", scores)
        assert [row.run for row in compare([a, b])[0].rows] == [str(a.path), str(b.path)]
        assert len(compare([a, a])[0].rows) == 1


class TestFiles:
    """scores.json as it is found."""

    @pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]", "\x00"])
    def test_a_damaged_file(self, make: Make, content: str) -> None:
        run = make("a")
        (run.path / "scores.json").write_text(content)
        with pytest.raises(RunError, match="score again"):
            compare([run])

    def test_no_scores(self, make: Make) -> None:
        run = make("a")
        assert read_scores(run.path) == []
        with pytest.raises(RunError, match=f"smoothctl score {run.path}"):
            compare([run])


class TestVerb:
    """The verb prints tables, Markdown and JSON."""

    @pytest.fixture
    def runs(self, make: Make) -> list[Path]:
        a = entry([estimate("baseline", "exact", 3.0)], [statistics("two-step", 0.2)])
        b = entry([estimate("baseline", "exact", 2.0)], [statistics("two-step", 0.3)])
        return [make("first_run|x", a).path, make("second", b).path]

    def test_a_table(self, cli, runs) -> None:
        out = cli.output("compare", *runs)
        assert "two-moons" in out
        assert "2.000 ± 0.010" in out
        assert "not compared" not in out

    def test_many_columns_come_in_parts(self, cli, make: Make) -> None:
        figures = ("recall", "density", "coverage", "copies", "nearer_than_test")
        row = {**dict.fromkeys(figures, 0.5), "kernel_distance": 1e-3, "inception_score": 7}
        out = cli.output("compare", make("a", entry(quality=quality(2.0, row=row))).path)
        assert "(continued)" in out
        tables = [line for line in out.splitlines() if line[:1] in "┏┃┡│└"]
        assert max(map(len, tables)) <= 100
        assert all(line[-1] in "┓┃┩│┘" for line in tables)
        assert "Inception" in out
        assert "0.5 is ideal" in out
        again = make("b", entry(quality=quality(2, row=row))).path
        assert "0.5 is ideal" not in cli.output("compare", again, "-q")

    def test_markdown(self, cli, runs) -> None:
        out = cli.output("compare", *runs, "--markdown")
        assert "| second | baseline | **2.000 ± 0.010** |" in out
        assert "| first\\_run\\|x |" in out
        rows = [line for line in out.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
        assert out == "".join(
            markdown(comparison_table(each)) for each in compare([load_run(path) for path in runs])
        )

    def test_json(self, cli, runs) -> None:
        (table,) = json.loads(cli.output("compare", *runs, "--json"))
        rows = {(row["run"], row["model"]): row["cells"] for row in table["rows"]}
        cell = rows["second", "baseline"]["nats"]
        assert (cell["value"], cell["best"], cell["bound"]) == (2.0, True, 0)

    def test_one_form_at_a_time(self, cli, runs) -> None:
        code, _, err = cli("compare", *runs, "--json", "--markdown")
        assert code == 2
        assert "exclude each other" in err

    def test_runs_without_scores_are_named(self, cli, runs, make: Make) -> None:
        code, _, err = cli("compare", *runs, make("bare").path)
        assert code == 1
        assert "bare has no scores yet" in err
