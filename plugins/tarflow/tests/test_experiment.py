"""`reproduce tarflow`: TarFlow's rows beside PixelCNN++'s."""

import json

import pytest

from smoothctl.testing import CommandLine


@pytest.mark.slow
def test_both_stand_in_one_table(cli: CommandLine) -> None:
    words = ["--seeds", "0", "--steps-factor", "0.004", "--limit", "40", "-q", "--json"]
    code, out, err = cli("reproduce", "tarflow", *words)
    assert code == 0, err
    found = json.loads(out)
    assert [row["model"] for row in found["rows"]] == ["PixelCNN++", "TarFlow"]
    for row in found["rows"]:
        assert {"bits/dim", "Fréchet", "two-step Fréchet", "single-step"} <= row["figures"].keys()
    sizes = [row["parameters"] for row in found["rows"]]
    assert abs(sizes[0] / sizes[1] - 1) < 0.05
