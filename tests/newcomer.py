"""A newcomer's hour: install the wheel, fit your own images, find σ, pack the best, load it again.

    python -m tests.newcomer WHEEL

It takes a new virtual environment, which it removes, and fails where anything is not as a newcomer
would expect, or after 20 minutes.
"""

import json
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

_LONGEST = 20 * 60
_LOAD = """
import smoothctl
run = smoothctl.load("mine.zip")
samples = run.sample(9, seed=1).samples
assert samples.shape == (9, 1, 16, 16) and bool(samples.abs().max() <= 1), samples.shape
print(run.path, len(samples), "images")
"""


def photos(folder: Path, count: int = 400) -> None:
    """Draws bright discs on dark grounds: 16×16 grey PNG files, as somebody's own would be."""
    dice, grid = np.random.default_rng(0), np.mgrid[0:16, 0:16]
    folder.mkdir()
    for number in range(count):
        middle, radius = dice.uniform(5, 11, (2, 1, 1)), dice.uniform(2, 5)
        inside = np.square(grid - middle).sum(0) < radius**2
        pixels = np.where(inside, dice.uniform(150, 250), dice.uniform(10, 60))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.png")


def main(wheel: Path) -> None:
    """Goes through the hour."""
    begun = time.monotonic()
    with TemporaryDirectory() as name:
        home = Path(name)
        venv.create(home / "venv", with_pip=True)
        python = str(home / "venv/bin/python")

        def run(*words: object) -> str:
            print("$", *words, flush=True)
            done = subprocess.run(
                [python, *map(str, words)], cwd=home, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"exit code {done.returncode}: {done.stdout}{done.stderr}")
            return done.stdout

        def smoothctl(*words: object) -> str:
            return run("-m", "smoothctl", *words)

        run("-m", "pip", "install", "--quiet", wheel)
        print(smoothctl("--version").strip(), f"after {time.monotonic() - begun:.0f} s")
        photos(home / "photos")
        assert "16" in smoothctl("datasets", "show", "photos")
        options = ("--preset", "small", "--steps", 120, "--batch-size", 16)
        sweep = ("sweep", "--dataset", "photos", *options, "--over", "sigma=0.1,0.3,0.9", "--json")
        told = json.loads(smoothctl(*sweep))
        bounds = {trial["over"]["sigma"]: trial["nats"] for trial in told["trials"]}
        assert len(bounds) == 3, bounds
        assert (home / told["picture"]).stat().st_size > 4000
        best = min(told["trials"], key=lambda trial: trial["nats"])["run"]
        smoothctl("sample", best, "--method", "all", "-n", 9)
        smoothctl("pack", best, "--out", "mine.zip", "--licence", "cc0-1.0")
        print(run("-c", _LOAD).strip())
    seconds = time.monotonic() - begun
    print(f"{seconds / 60:.1f} minutes")
    if seconds > _LONGEST:
        raise SystemExit(f"more than {_LONGEST / 60:.0f} minutes")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
