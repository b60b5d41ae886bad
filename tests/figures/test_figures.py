import ast
import subprocess
import sys

import pytest

from analysis.provenance import ROOT
from figures import style

MODULES = sorted(p.stem for p in (ROOT / "figures").glob("*.py") if p.stem not in ("__init__", "style"))


def test_drawing_needs_no_torch():
    code = "import sys, analysis.results\n" + "\n".join(f"import figures.{m}" for m in MODULES)
    code += "\nassert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", MODULES)
def test_a_figure_declares_its_tables_question_and_functions(name):
    tree = ast.parse((ROOT / "figures" / f"{name}.py").read_text())
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert {"TABLES", "QUESTION", "answer", "draw"} <= assigned | defined


def test_the_arrows_between_rooms_point_one_way():
    rooms = {"analysis": ("toy_models", "real_models", "figures"), "toy_models": ("figures", "real_models")}
    for room, forbidden in rooms.items():
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(n.split(".")[0] in forbidden for n in names), f"{path} imports {names}"


def test_methods_look_different_and_the_same_everywhere():
    named = [style.method("end_to_end", solver) for solver in ("euler", "midpoint", "heun", "rk4", "ddim")]
    named.append(style.method("greedy"))
    assert len({(look["color"], look["marker"]) for look in named}) == 6
    assert style.method("lookahead", "euler")["color"] == style.method("end_to_end", "euler")["color"]
    assert style.method("lookahead", "euler")["markerfacecolor"] == "white"
    assert style.method("somebody's own") == style.method("somebody's own")
