"""Where the contract suites compute: `pytest --device cuda`, where a conftest.py has the option."""

import pytest
import torch

__all__ = ["OnDevice", "device"]


def _chosen(config: pytest.Config) -> str:
    """Returns the device of `--device`, "cpu" without one; skips where it is not there."""
    chosen = str(config.getoption("--device", default="cpu"))
    if chosen == "cuda" and not torch.cuda.is_available():
        pytest.skip("--device cuda: torch finds no CUDA device on this machine")
    return chosen


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device that tests compute on."""
    return _chosen(request.config)


class OnDevice:
    """A suite that makes its models and numbers on `self.device`."""

    device: str = "cpu"

    @pytest.fixture(autouse=True)
    def _on_device(self, request: pytest.FixtureRequest) -> None:
        self.device = _chosen(request.config)
