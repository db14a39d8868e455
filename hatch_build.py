"""Compiles the sampler of PixelCNN++ when smoothctl is installed, where there is a compiler."""

import runpy
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "smoothctl/architectures/pixelcnnpp/native"


class CompiledSampler(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled sampler to the wheel; without it the wheel is one for any machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles it and gives the wheel the tag of this platform."""
        building = runpy.run_path(f"{self.root}/{NATIVE}/build.py")
        try:
            building["build"]()
        except building["CompilerError"] as error:
            self.app.display_warning(f"The sampler is not compiled, a slower one is used: {error}.")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"{NATIVE}/{building['LIBRARY'].name}")
