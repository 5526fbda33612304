"""notebooks/build.py and what it imports, which lie beside the notebooks and in no package."""

import sys

from helpers.lab import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))

import build  # noqa: E402, F401
