"""What an experiment is: rows that were measured, and claims that they support or refute."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from pydantic import TypeAdapter

from smoothctl.errors import RunError
from smoothctl.rng import generator
from smoothctl.runs.config import StageName
from smoothctl.runs.run import Run
from smoothctl.training.reporter import Reporter

__all__ = [
    "Budget",
    "Claim",
    "Experiment",
    "Result",
    "Row",
    "at_most",
    "better",
    "collect",
    "cpu_seconds",
    "evaluate_baseline",
    "evaluate_two_step",
    "parameters",
]


_DRAWS = 256


@dataclass(frozen=True)
class Budget:
    """How much of an experiment to run.

    Args:
        steps: factor on every stage's steps; 1 for the published figures.
        examples: test examples.
        draws: K of the importance-weighted bound; None: the experiment's own.
        dataset: where the experiment's data are, as `open_dataset` takes it; None: its own.
    """

    steps: float = 1.0
    examples: int = 10_000
    draws: int | None = None
    dataset: str | None = None

    def of(self, steps: int) -> int:
        """Returns that many steps, scaled."""
        return max(2, round(steps * self.steps))


@dataclass(frozen=True)
class Row:
    """One model's measured figures, one value for each seed.

    Args:
        model: which model, on which data.
        parameters: trained parameters in all its stages.
        figures: name -> one value a seed, in nats unless the name says otherwise.
        reference: the paper's figure or the floor, as text.
    """

    model: str
    parameters: int
    figures: dict[str, list[float]]
    reference: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement about the rows, and whether the measurement supports it.

    Args:
        statement: what is claimed.
        measured: what was found.
        holds: whether that supports it.
        published: what the paper says in figures, as text.
    """

    statement: str
    measured: str
    holds: bool
    published: str = ""


@dataclass(frozen=True)
class Result:
    """What an experiment found, by which command, and on which data where these were given."""

    name: str
    seeds: list[int]
    truth: dict[str, float]
    rows: list[Row]
    claims: list[Claim]
    pictures: list[str] = field(default_factory=list)
    command: str = ""
    dataset: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any, where: str) -> "Result":
        """Returns what `to_dict` gave.

        Args:
            values: of JSON that anybody may have written.
            where: what a message calls it.

        Raises:
            RunError: they are no result.
        """
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValueError as error:
            raise RunError(f"{where} is no result of an experiment: run it again.") from error


@dataclass(frozen=True)
class Experiment:
    """A figure or table of a paper.

    Args:
        name: on the command line.
        summary: what it compares, on which data, for the list.
        source: paper, section, table.
        run: fits and scores it: (folder, seeds, budget, reporter) -> result.
        takes_dataset: whether `Budget.dataset` means something to it.
        equal: what the models that it compares have in equal measure, as its table says first.
        paper: which paper it is of; None: of neither.
        section: where in it, for the order of lists.
        minutes: what it takes with three seeds on two cores, about; None: not known.
        gpu: whether that is more than anybody would wait for without a GPU.
        note: what a reader of its table has to know.
    """

    name: str
    summary: str
    source: str
    run: Callable[[Path, Sequence[int], Budget, Reporter], Result]
    takes_dataset: bool = False
    equal: str = ""
    paper: Literal["ARDS", "NCSN"] | None = None
    section: float = 0.0
    minutes: float | None = None
    gpu: bool = False
    note: str = ""

    @property
    def place(self) -> tuple[int, float, str]:
        """Its place in lists: by paper, section and name."""
        papers = ("ARDS", "NCSN", None)
        return papers.index(self.paper), self.section, self.name


def evaluate_baseline(run: Run, budget: Budget) -> dict[str, float]:
    """Returns a baseline's exact −log p(x) in nats and its share of samples off the support."""
    from smoothctl.evaluation.likelihood import plain_likelihood

    dataset, density = run.dataset(), run.density("baseline")
    x = dataset.test.head(budget.examples)
    samples = density.sample(len(x), generator=generator(0, "baseline"))
    return {
        "nats": plain_likelihood("baseline", density, x).nats,
        "off support, %": 100 * float(dataset.off_support(samples).float().mean()),
    }


def evaluate_two_step(run: Run, budget: Budget) -> dict[str, float]:
    """Returns both bounds of −log p(x) in nats and the share of samples off the support."""
    from smoothctl.evaluation.likelihood import bounds

    dataset, method = run.dataset(), run.two_step()
    assert method is not None
    x = dataset.test.head(budget.examples)
    estimates, _ = bounds("two-step", method, x, budget.draws or _DRAWS, seed=0)
    samples = method.sample(len(x), generator=generator(0, "two-step"))
    return {
        "nats": estimates[-1].nats,
        "bound, 1 draw": estimates[0].nats,
        "off support, %": 100 * float(dataset.off_support(samples).float().mean()),
    }


def parameters(run: Run, *stages: StageName) -> int:
    """Returns how many trained parameters the stages have together."""
    return sum(p.numel() for stage in stages for p in run.density(stage).parameters())


def cpu_seconds(run: Run, *stages: StageName) -> float:
    """Returns how long the stages were trained, in seconds of the processor's time."""
    return sum(run.stage(stage).seconds().cpu for stage in stages)


def collect(per_seed: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Turns one dictionary a seed into one list a figure."""
    return {name: [figures[name] for figures in per_seed] for name in per_seed[0]}


def at_most(what: str, values: Sequence[float], limit: float, published: str = "") -> Claim:
    """Claims that every seed's value is at most the limit."""
    shown = ", ".join(f"{value:.3f}" for value in values)
    return Claim(f"{what} at most {limit:g}", shown, max(values) <= limit, published)


def better(
    first: str,
    a: Sequence[float],
    second: str,
    b: Sequence[float],
    unit: str = "nats",
    published: str = "",
) -> Claim:
    """Claims that the first is lower than the second at every seed."""
    gaps = [y - x for x, y in zip(a, b, strict=True)]
    shown = f"mean gap {mean(gaps):+.3f} {unit}, least {min(gaps):+.3f}"
    what, shown = "" if unit == "nats" else f" in {unit}", shown.replace("-", "−")
    return Claim(f"{first} is better than {second}{what}", shown, min(gaps) > 0, published)
