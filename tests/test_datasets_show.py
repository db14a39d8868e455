"""`datasets show` of a user's own data: what a fit would find, before it is begun."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_of_a_table(in_tmp: Path, cli) -> None:
    rows = np.random.default_rng(0).normal(size=(500, 3)) * [1, 10, 0.1]
    np.savetxt("a.csv", rows, delimiter=",", header="a,b,c", comments="")
    found = json.loads(cli.output("datasets", "show", "a.csv", "--json"))
    assert found["examples"] == {"train": 405, "validation": 45, "test": 50}
    assert found["event shape"] == [3]
    assert found["unit of sigma"] == "each column's spread"
    assert found["values from, to"][0] < -20 < 20 < found["values from, to"][1]
    assert 0 < found["seconds a step here"] < 30
    sigma = json.loads(cli.output("sigma-heuristic", "--dataset", "a.csv", "--json"))["sigma"]
    assert abs(found["sigma by the heuristic"] - sigma) < 0.01
    assert not Path("runs").exists()


@pytest.mark.slow
def test_of_images_with_settings(in_tmp: Path, cli) -> None:
    """The command that it ends with names them, and a fit takes that."""
    Path("mine").mkdir()
    for number in range(40):
        noise = np.random.default_rng(number).integers(256, size=(9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"mine/{number}.png")
    code, out, err = cli("datasets", "show", "./mine", "--data", "size=6", "--data", "grey=true")
    assert code == 0, err
    assert "[1, 6, 6]" in out
    assert "pixelcnnpp, 4,000 steps of 8 examples" in out
    found = json.loads(cli.output("datasets", "show", "./mine", "--data", "size=6", "--json"))
    assert found["command"] == "smoothctl fit-prior --dataset ./mine --data size=6"
    words = found["command"].split()[1:]
    code, _, err = cli(*words, "--steps", "1", "--device", "cpu", "--out", "r")
    assert code == 0, err
    assert f"sigma = {found['sigma by the heuristic']}" in err


def test_of_what_is_not_there_or_has_no_settings(in_tmp: Path, cli) -> None:
    code, _, err = cli("datasets", "show", "./nowhere")
    assert (code, "There is no file or folder" in err) == (1, True)
    code, _, err = cli("datasets", "show", "rongs")
    assert (code, "rings" in err) == (2, True)
    code, _, err = cli("datasets", "show", "digits", "--data", "size=3")
    assert (code, "digits is shown as it is registered: leave --data out" in err) == (2, True)
