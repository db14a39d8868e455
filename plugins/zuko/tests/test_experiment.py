"""The experiment compares like with like."""

from pathlib import Path

import pytest
from smoothctl_zuko import experiment as module

from smoothctl.reproduce.base import Budget
from smoothctl.training.fit import Quiet


@pytest.mark.slow
def test_both_sides_have_as_many_parameters_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DATASETS", ("rings",))
    result = module.experiment.run(
        tmp_path, [0], Budget(steps=0.001, examples=20, draws=2), Quiet()
    )
    assert [row.model for row in result.rows[:2]] == ["rings: zuko-maf", "rings: two-step zuko-maf"]
    for plain, smoothed in zip(result.rows[::2], result.rows[1::2], strict=True):
        assert smoothed.parameters == pytest.approx(plain.parameters, rel=0.02)
        assert smoothed.figures["nats"][0] < smoothed.figures["bound, 1 draw"][0]
