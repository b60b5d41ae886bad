"""What the lower part of the library must not import; a new interpreter's ``sys.modules`` is the truth."""

import json
import subprocess
import sys

LOWER = ("analysis.gradients", "analysis.guidance", "analysis.operators", "analysis.measurements")
HEAVY = {"pandas", "pyarrow", "joblib", "rich", "matplotlib"}


def test_gradients_guidance_and_operators_need_no_tables_runner_or_plots():
    code = f"import json, sys, {', '.join(LOWER)}; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = set(json.loads(loaded))
    assert set(LOWER) <= names
    assert not HEAVY & names
