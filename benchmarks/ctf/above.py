"""Imported first by the scripts here, so that they find what all benchmarks share, one folder up."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parents[1])
if FOLDER not in sys.path:
    sys.path.append(FOLDER)
