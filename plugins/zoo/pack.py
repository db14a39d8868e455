"""Puts a fitted run into the package, in half precision; the card is written by hand.

    python plugins/zoo/pack.py RUN NAME --dataset DATASET [--weights best]

DATASET is the registered name of the data that the run was fitted to, wherever they lay.
"""

import argparse
from pathlib import Path

from smoothctl.runs.packaged import pack
from smoothctl.runs.run import load_run

_MODELS = Path(__file__).parent / "src" / "smoothctl_zoo" / "models"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--weights", choices=("last", "best"), default="best")
    given = parser.parse_args()
    run = load_run(given.run)
    for stage in run.stages():
        weights = run.stage(stage).weights_file(given.weights)
        pack(weights, _MODELS / given.name / stage, given.dataset)


if __name__ == "__main__":
    main()
