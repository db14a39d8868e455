"""The plugin from the command line: what is fitted is read back and scored."""

import json
import math

import pytest

from smoothctl.testing import CommandLine

FAST = ["--steps", "20", "--batch-size", "64", "--device", "cpu", "--set", "width=8"]


@pytest.mark.slow
def test_a_run_of_all_stages(cli: CommandLine) -> None:
    architecture = ["--arch", "zuko-nsf"]
    cli.output("fit-baseline", *architecture, "--dataset", "rings", "--out", "run", *FAST)
    cli.output("fit-prior", *architecture, "--dataset", "rings", "--out", "run", *FAST)
    cli.output("fit-denoiser", "--out", "run", *FAST)
    few = ["--limit", "20", "--draws", "4", "--quadrature", "0", "--samples", "50"]
    scores = json.loads(cli.output("score", "run", *few, "--json"))
    values = [entry["nats"] for entry in scores["likelihood"]]
    assert len(values) >= 3
    assert all(math.isfinite(value) for value in values)


def test_the_experiment_and_the_architectures_are_listed(cli: CommandLine) -> None:
    names = {entry["name"] for entry in json.loads(cli.output("architectures", "list", "--json"))}
    assert {"zuko-maf", "zuko-nsf", "zuko-gmm"} <= names
    assert "zuko-smoothing" in cli.output("reproduce", "--json")
