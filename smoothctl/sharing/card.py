"""The card of a packed run: README.md in the form that the Hugging Face hub reads."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from smoothctl import __version__
from smoothctl.errors import RunError, SmoothctlError
from smoothctl.evaluation.compare import Comparison, of_records
from smoothctl.evaluation.measurements import OF_QUALITY, OF_RUNS
from smoothctl.evaluation.records import read_scores
from smoothctl.reporting.scores import comparison_table
from smoothctl.reporting.tables import Table, left, markdown, right
from smoothctl.runs.commands import fit_command
from smoothctl.runs.packed import PICTURE, packed_stages
from smoothctl.runs.run import Run
from smoothctl.storage.files import sha256_of

__all__ = ["LIBRARY", "card"]

LIBRARY = "smoothctl"
_TASK = "unconditional-image-generation"
"""What the hub calls it; it has no name for models of vectors."""


def card(run: Run, packed: Path, name: str, licence: str | None) -> str:
    """Returns the card of a packed run.

    Args:
        run: what was packed.
        packed: the folder that it was packed into.
        name: of the model.
        licence: of the weights, as the hub calls it, such as "mit"; None: nothing is said of it.

    Raises:
        RunError: a stage is damaged.
    """
    from huggingface_hub import EvalResult, ModelCardData

    config = run.config()
    task = _TASK if len(config.event_shape) == 3 else "other"
    scores = _scores(run)
    data = ModelCardData(
        library_name=LIBRARY,
        license=licence,
        pipeline_tag=_TASK if task == _TASK else None,
        tags=[LIBRARY, "generative-modelling", "density-estimation", "denoising"],
        model_name=name,
        eval_results=[
            EvalResult(task, config.dataset, config.dataset, key, value, metric_name=heading)
            for key, heading, value in _metrics(scores)
        ],
    )
    figures = comparison_table(scores, runs=False, title="Figures")
    parts = [
        f"---\n{data.to_yaml().rstrip()}\n---\n\n# {name}",
        _about(run),
        *([f"![samples]({PICTURE})"] if (packed / PICTURE).is_file() else []),
        markdown(_stages(run, packed)).rstrip(),
        *([markdown(figures).rstrip()] if scores.rows else []),
        _use(name),
        _made(run, name),
    ]
    return "\n\n".join(parts) + "\n"


def _about(run: Run) -> str:
    config = run.config()
    shape = "×".join(map(str, config.event_shape))
    said = f"A model of {config.dataset} ({shape}), fitted by smoothctl {__version__}: "
    stages = run.stages()
    if config.kernel is None and set(stages) == {"baseline"}:
        return said + "a plain density of the data."
    smoothed = next(c for c in run.configs().values() if c.kernel is not None)
    kernel = str(smoothed.kernel).rpartition(":")[2]
    said += f"a prior p(x̃) of the data smoothed by {kernel} noise of σ = {smoothed.sigma:g}"
    if {"denoiser", "joint"} & set(stages):
        said += ", and a denoiser p(x given x̃) that brings sharp samples back"
    return said + " (Meng et al., ICLR 2021)."


def _stages(run: Run, packed: Path) -> Table:
    rows = []
    for name in packed_stages(packed):
        config, density = run.stage(name).config(), run.density(name)
        parameters = sum(p.numel() for p in density.parameters())
        digest = sha256_of(packed / name / "model.safetensors")
        steps = f"{config.training.steps:,}"
        rows.append([name, config.architecture, f"{parameters:,}", steps, digest])
    columns = [*left("stage", "architecture"), *right("parameters", "steps"), *left("SHA-256")]
    return Table("Stages", columns, [rows])


def _scores(run: Run) -> Comparison:
    try:
        return of_records(read_scores(run.path))
    except RunError:
        return of_records([])


def _metrics(scores: Comparison) -> Iterator[tuple[str, str, float]]:
    """Yields key, heading and value of what was measured of the best model."""
    measured = next((row for row in scores.rows if row.kind == "measured"), None)
    for measure in (*OF_RUNS, *OF_QUALITY) if measured is not None else ():
        if measured is not None and (cell := measured.cells.get(measure.key)) is not None:
            bound = " (upper bound)" * (cell.bound > 0)
            yield measure.key, f"{measured.model}: {measure.heading}{bound}", cell.value


def _use(name: str) -> str:
    return f"""### Use

```bash
pip install smoothctl
smoothctl pull OWNER/{name}        # or the name of this folder or file
smoothctl sample runs/{name} --method all
```

```python
import smoothctl

run = smoothctl.load("OWNER/{name}")
samples = run.sample(64)
```"""


def _made(run: Run, name: str) -> str:
    """Returns the commands that fit it again."""
    configs = run.configs()
    lines = []
    for config in configs.values():
        try:
            lines.append(shlex.join(fit_command(config, f"runs/{name}", configs.get("prior"))))
        except SmoothctlError as error:  # of an architecture that is not installed
            lines.append(f"# {config.stage}: {error}")
    return "### Fitted by\n\n```bash\n" + "\n".join(lines) + "\n```"
