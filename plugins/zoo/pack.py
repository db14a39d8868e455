"""Puts a fitted run into the package, in half precision; the card is written by hand.

    python plugins/zoo/pack.py RUN NAME --dataset DATASET [--weights best]

DATASET is the registered name of the data that the run was fitted to, wherever they lay. Samples of
the model go along as examples.npz: what there is to denoise and complete without any data.
"""

import argparse
from pathlib import Path

import numpy as np

from smoothctl.datasets.pictures import to_uint8
from smoothctl.runs.packed import pack_stage
from smoothctl.runs.run import load_run
from smoothctl.sampling.draw import draw_all

_EXAMPLES = 32
_MODELS = Path(__file__).parent / "src" / "smoothctl_zoo" / "models"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--weights", choices=("last", "best"), default="best")
    given = parser.parse_args()
    run = load_run(given.run, given.weights)
    for stage in run.stages():
        weights = run.stage(stage).weights_file(given.weights)
        pack_stage(weights, _MODELS / given.name / stage, given.dataset, half=True)
    drawn = draw_all(run, ["two-step"], _EXAMPLES, seed=0)["two-step"]
    np.savez_compressed(_MODELS / given.name / "examples.npz", samples=to_uint8(drawn.samples))


if __name__ == "__main__":
    main()
