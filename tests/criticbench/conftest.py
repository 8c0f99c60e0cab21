"""The model server of the critics' tests serves those of their benchmark, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "critics"))
