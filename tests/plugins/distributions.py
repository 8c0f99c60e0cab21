"""Real distributions on a path: what pip would have installed, without pip."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from peerwatt.plugins import template

HOOK = """
from peerwatt.plugins import AlgorithmSpec, hookimpl

def spec(name, **more):
    path = "good_trader:GoodTrader"
    return AlgorithmSpec(name=name, factory=path, policy=path + "Policy", summary="x", **more)

@hookimpl
def peerwatt_algorithms():
    return [{specs}]
"""


@dataclass
class Site:
    """A folder of distributions, and how to run `peerwatt` with them."""

    folder: Path

    def install(self, name, source, version="1.0"):
        """Install a distribution of one module, whose entry point is that module."""
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[peerwatt]\nhooks = {module}\n")

    def install_specs(self, name, *specs, version="1.0"):
        """Install a distribution that registers algorithms, each as the arguments of a spec."""
        self.install(name, HOOK.format(specs=", ".join(f"spec({s})" for s in specs)), version)

    def install_template(self, name, kind):
        """Install a package just as `peerwatt plugins new` writes it."""
        written = template.write_plugin(name, kind, self.folder)
        module = name.replace("-", "_")
        self.install(name, (written.folder / f"{module}.py").read_text(), "0.1.0")

    def python(self, script, *words, **environment):
        """Run a script in a fresh interpreter that sees the distributions."""
        return subprocess.run(
            [sys.executable, "-P", "-c", script, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
        )

    def peerwatt(self, *words, **environment):
        """Run the command line; return the finished process."""
        script = "from peerwatt.cli.main import main; main()"
        return self.python(script, *words, **environment)
