"""The experiment compares like with like."""

from pathlib import Path

import pytest
from smoothctl_cif import experiment as module

from smoothctl.reproduce.base import Budget
from smoothctl.training.fit import Quiet


def test_all_models_have_as_many_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DATASETS", ("rings",))
    result = module.experiment.run(
        tmp_path, [0], Budget(steps=0.001, examples=20, draws=2), Quiet()
    )
    assert len(result.rows) == 4
    assert len(result.claims) == 2
    for row in result.rows:
        assert row.parameters == pytest.approx(result.rows[0].parameters, rel=0.05)
        assert set(row.figures) >= {"nats", "off support, %"}
