"""`scripts/mutants.py` as a module: it stands outside every package."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

_spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
assert _spec is not None
assert _spec.loader is not None
mutants = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = mutants  # where dataclasses look their module up
_spec.loader.exec_module(mutants)
