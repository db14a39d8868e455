"""`smoothctl reproduce`: the list, what fits a budget, stored results, and the page of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smoothctl import reproduce
from smoothctl.errors import NotAvailable, RunError
from smoothctl.reproduce import thin_ring
from smoothctl.reproduce.base import Claim, Experiment, Result, Row
from smoothctl.reproduce.page import Stored, page, write_page
from smoothctl.testing import CommandLine

DOCS = Path(__file__).parents[1] / "docs"

RESULT = Result(
    "mine",
    [0, 1],
    {"true entropy, nats": 1.25},
    [
        Row("plain", 1234, {"nats": [2.0, 4.0]}, "paper 2.5"),
        Row("floor", 0, {"nats": [-1.0, -1.0]}),
    ],
    [Claim("a | b", "2 against 3", True, "1 against 2"), Claim("c", "no", False)],
    ["runs/mine.png"],
    "do it",
)


def experiment(name: str, paper: str | None = "ARDS", section: float = 1.0, **more: object):
    return Experiment(
        name,
        f"what {name} shows",
        "table 1",
        lambda *_: RESULT,
        paper=paper,
        section=section,
        **more,
    )


class TestPage:
    """Markdown of stored results."""

    def test_claims_stand_beside_what_was_published(self) -> None:
        text = page([Stored(experiment("mine", equal="steps", note="Mind this."), RESULT)])
        assert r"| a \| b | 1 against 2 | 2 against 3 | holds | mine |" in text
        assert "| c |  | no | **refuted** | mine |" in text
        assert "## mine\n\nWhat mine shows: table 1; equal: steps; seeds 0, 1.\n" in text
        assert "| plain | 1,234 | 3.000 ± 1.000 | paper 2.5 |" in text
        assert "−1.000 ± 0.000" in text
        assert "$ do it" in text
        assert text.index("true entropy, nats: 1.250.") < text.index("![what mine shows]")
        assert text.rstrip().endswith("Mind this.")

    def test_what_was_not_run_says_so_and_what_it_costs(self) -> None:
        text = page([Stored(experiment("big", gpu=True)), Stored(experiment("long", minutes=120))])
        assert "| what big shows |  | cost: GPU | not run here | big |" in text
        assert "cost: 2.0 h | not run here | long |" in text

    def test_a_command_stays_in_its_line(self) -> None:
        """Whatever the file of somebody else says, it opens nothing on the page."""
        hostile = replace(RESULT, command="do it\n```\n# Mine\n<script>")
        assert "```text\n$ do it # Mine <script>\n```\n" in page(
            [Stored(experiment("mine"), hostile)]
        )

    def test_a_result_survives_the_file(self) -> None:
        stored = json.loads(json.dumps(RESULT.to_dict()))
        assert Result.from_dict(stored, "here") == RESULT

    @pytest.mark.parametrize(
        "damage",
        [
            {"rows": 3},
            {"rows": [{}]},
            {"claims": [{"statement": 1}]},
            {"seeds": "x"},
            {"name": None},
        ],
    )
    def test_a_damaged_result_is_one_sentence(self, damage: dict[str, object]) -> None:
        with pytest.raises(RunError, match=r"^here is no result of an experiment: run it again\.$"):
            Result.from_dict({**RESULT.to_dict(), **damage}, "here")


def test_experiments_are_in_the_papers_order() -> None:
    all_of = [reproduce.load(name) for name in reproduce.names()]
    ordered = [each.name for each in sorted(all_of, key=lambda each: each.place)]
    places = [
        ordered.index(name) for name in ("thin-ring", "theorem-1", "inverse-u", "rings", "mnist")
    ]
    assert places == sorted(places)
    first, last = experiment("z", "NCSN", 1.0), experiment("a", None, 0.0)
    assert experiment("b").place < first.place < last.place


def test_the_page_of_the_docs_with_all_plugins(tmp_path: Path) -> None:
    """docs/results.md is what `reproduce --markdown` writes of docs/results."""
    results = DOCS / "results"
    if not {"tarflow", "rivals", "ncsn-rings", "cif", "zuko-smoothing"} <= {*reproduce.names()}:
        pytest.skip("not all plugins are installed: nox -s plugins has them")
    experiments = [reproduce.load(name) for name in reproduce.names()]
    ordered = sorted(experiments, key=lambda each: each.place)
    write_page(tmp_path / "results.md", results, ordered, pytest.fail)
    written = (tmp_path / "results.md").read_text(encoding="utf-8")
    command = "smoothctl reproduce --out docs/results --markdown docs/results.md"
    assert written == (DOCS / "results.md").read_text(encoding="utf-8"), f"stale: {command}"


class TestVerb:
    """The command line."""

    def test_what_fits_a_budget_is_run_stored_and_written(self, cli: CommandLine) -> None:
        small = ("--seeds", "0", "--steps-factor", "0.01", "--limit", "50", "-q", "--json")
        code, out, err = cli("reproduce", "all", "--budget", "0.005m", *small)
        assert code == 0, err
        assert {"thin-ring", "theorem-1", "proposition-1"} <= json.loads(out).keys()
        code, out, err = cli("reproduce", "--markdown", "docs/page.md")
        assert (code, out.strip()) == (0, "docs/page.md"), err
        text = Path("docs/page.md").read_text(encoding="utf-8")
        command = "smoothctl reproduce thin-ring --seeds 0 --steps-factor 0.01 --limit 50"
        assert f"$ {command}\n" in text
        assert "![" in text
        assert "](page/theorem-1/theorem-1.png)" in text
        assert Path("docs/page/theorem-1/theorem-1.png").read_bytes()[:4] == b"\x89PNG"
        assert "| not run here | rings |" in text

    @pytest.mark.slow
    def test_one_that_cannot_be_run_leaves_the_others(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(*_: object) -> Result:
            raise NotAvailable("No network.")

        broken = replace(thin_ring.experiment, run=run)
        monkeypatch.setattr(thin_ring, "experiment", broken)
        small = ("--seeds", "0", "--steps-factor", "0.01", "--limit", "50", "-q")
        code, out, err = cli("reproduce", "all", "--budget", "0.0007m", *small)
        assert (code, "theorem-1" in out) == (1, True)
        assert "Error: Not all could be run. thin-ring: No network." in err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["all"], "--budget"),
            (["rings", "--budget", "2h"], "goes with 'all'"),
            (["--budget", "2h"], "goes with 'all'"),
            (["--markdown", "page.md", "--budget", "2h"], "goes with 'all'"),
            (["all", "--budget", "2h", "--dataset", "digits"], "leave --dataset out"),
            (["all", "--budget", "soon"], "a time such as 2h"),
            (["all", "--budget", "0.001m"], "too short"),
            (["rings", "--markdown", "page.md"], "runs no experiment"),
            (["--markdown", "page"], "a file such as page.md"),
        ],
    )
    def test_wrong_words(self, cli: CommandLine, words: list[str], said: str) -> None:
        code, _, err = cli("reproduce", *words)
        assert (code, said in err) == (2, True), err

    def test_a_file_that_holds_something_else(self, cli: CommandLine) -> None:
        folder = Path("runs/reproduce/theorem-1")
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("[1]", encoding="utf-8")
        code, _, err = cli("reproduce", "--markdown", "page.md")
        assert (code, "theorem-1/result.json is no result of an experiment" in err) == (1, True)

    def test_a_page_of_nothing(self, cli: CommandLine) -> None:
        code, _, err = cli("reproduce", "--markdown", "page.md")
        assert (code, "holds no results yet" in err) == (1, True)
        assert not Path("page.md").exists()

    def test_results_of_one_experiment_on_several_data(self, cli: CommandLine) -> None:
        """Have a section each, named by their data; pictures that are in place stay."""
        for name in ("art", "clothes"):
            folder = Path("docs/page", name)
            folder.mkdir(parents=True)
            (folder / "mine.png").write_bytes(name.encode())
            content = {
                **RESULT.to_dict(),
                "name": "images",
                "dataset": f"/data/{name}.npz" if name == "art" else "/data/#\n<b>clothes",
            }
            (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
        Path("docs/page/else").mkdir()
        other = json.dumps({**RESULT.to_dict(), "name": "nobody's"})
        Path("docs/page/else/result.json").write_text(other, encoding="utf-8")
        code, _, err = cli("reproduce", "--out", "docs/page", "--markdown", "docs/page.md")
        assert (code, "there is no experiment nobody's here" in err) == (0, True), err
        text = Path("docs/page.md").read_text(encoding="utf-8")
        places = ["## images (art)\n", "](page/art/mine.png)", "## images (-b-clothes)\n"]
        assert sorted(places, key=text.index) == places
        assert "| images (-b-clothes) |" in text
        assert Path("docs/page/art/mine.png").read_bytes() == b"art"

    def test_pictures_are_taken_from_the_result_s_own_folder(self, cli: CommandLine) -> None:
        """Whatever a file that somebody else wrote calls them."""
        folder = Path("runs/reproduce/theorem-1")
        folder.mkdir(parents=True)
        content = {**RESULT.to_dict(), "name": "theorem-1", "pictures": ["/etc/passwd"]}
        (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
        code, _, err = cli("reproduce", "--markdown", "page.md")
        assert (code, "theorem-1/passwd cannot be read (No such file" in err) == (1, True)
        assert not Path("passwd").exists()
