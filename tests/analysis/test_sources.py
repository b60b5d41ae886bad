"""Which sources a cell depends on.

The truth is a small package written out here, whose dependencies are known, and a copy of this repository that is
edited: which keys have to change follows from what was edited.
"""

import ast
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from analysis.settings import Options
from analysis.sources import ROOMS, ROOT, Sources, strings
from analysis.syntax import structure
from toy_models.experiments import claims, common, convergence, cost_accuracy, estimators, greedy_error, posterior_table

SMALL = {
    "analysis/__init__.py": "",
    "analysis/registry.py": """
        REGISTRY = {}
        def register(name):
            def add(function):
                REGISTRY[name] = function
                return function
            return add
        """,
    "analysis/rules/__init__.py": """
        import pkgutil
        from analysis.rules.one import one
        for found in pkgutil.iter_modules(__path__):
            pass
        """,
    "analysis/rules/one.py": """
        from analysis.registry import register
        from analysis.tools import used
        @register("one")
        def one(): return used()
        """,
    "analysis/rules/two.py": """
        from analysis.registry import register
        @register("two")
        def two(): return 2
        """,
    "analysis/tools.py": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from analysis import types
        SCALE = 3
        LEFT_OUT = 4
        def used() -> types.Kind: return SCALE
        def unused(): return LEFT_OUT
        """,
    "analysis/types.py": """
        class Kind: pass
        """,
    "analysis/late.py": "def late(): return 5",
    "toy_models/measures.py": """
        import analysis.tools
        from analysis import tools
        from analysis.registry import REGISTRY
        from analysis.rules import one
        def named(cell): return REGISTRY[cell.name]()
        def direct(cell): return one()
        def sweep(cell): return [rule() for rule in REGISTRY.values()]
        def inside(cell):
            from analysis.late import late
            return late()
        def module(cell): return vars(tools)
        def data(cell): return open("fit.npz"), open(f"{cell.name}.json")
        def looks(cell): return cell.name in REGISTRY or REGISTRY.get(cell.name)
        def shadowed(tools): return tools.unused
        """,
    "real_models/nets.py": """
        from analysis.late import late
        def learned(cell): return late(), open("net.safetensors"), open("net.json")
        """,
    "real_models/weights/net.safetensors": "5",
    "real_models/weights/net.json": "6",
    "toy_models/data/fit.npz": "1",
    "toy_models/data/a.json": "2",
    "toy_models/data/b.json": "3",
    "toy_models/data/other.npz": "4",
}


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = text.strip("\n").splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    path.write_text("\n".join(line[indent:] for line in lines) + "\n")


@pytest.fixture
def small(tmp_path):
    for name, text in SMALL.items():
        write(tmp_path, name, text)
    return tmp_path


MEASURES = {
    "named one": {"toy_models.measures:named", "one"},
    "named two": {"toy_models.measures:named", "two"},
    "direct": {"toy_models.measures:direct"},
    "sweep": {"toy_models.measures:sweep"},
    "inside": {"toy_models.measures:inside"},
    "module": {"toy_models.measures:module"},
    "data a": {"toy_models.measures:data", "a"},
    "looks": {"toy_models.measures:looks", "two"},
    "shadowed": {"toy_models.measures:shadowed"},
    "learned": {"real_models.nets:learned"},
    "factory": {"mine:measure", "analysis.late:late"},
}
EDITS = {
    ("analysis/rules/one.py", "return used()", "return -used()"): {"named one", "direct", "sweep"},
    ("analysis/rules/two.py", "return 2", "return 3"): {"named two", "sweep", "looks"},
    ("analysis/tools.py", "SCALE = 3", "SCALE = 4"): {"named one", "direct", "sweep", "module"},
    ("analysis/tools.py", "LEFT_OUT = 4", "LEFT_OUT = 5"): {"module"},
    ("analysis/types.py", "pass", "x = 1"): {"named one", "direct", "sweep", "module"},
    ("analysis/late.py", "return 5", "return 6"): {"inside", "factory", "learned"},
    ("real_models/nets.py", "return late()", "return -late()"): {"learned"},
    ("real_models/weights/net.safetensors", "5", "6"): {"learned"},
    ("real_models/weights/net.json", "6", "7"): {"learned"},
    ("analysis/late.py", "def late(): return 5", "def late():\n    'Say five.'\n    # five\n    return 5"): set(),
    ("analysis/late.py", "def late", "import os\nos.umask(0)\ndef late"): {"inside", "factory", "learned"},
    ("analysis/rules/__init__.py", "pass", "print(found)"): set(),
    ("analysis/registry.py", "REGISTRY[name] = function", "REGISTRY[name] = lambda: 0"): {
        *("named one", "named two", "direct", "sweep", "looks")
    },
    ("toy_models/measures.py", "return one()", "return -one()"): {"direct"},
    ("toy_models/measures.py", "from analysis.rules import one", "from math import e as one"): {"direct"},
    ("toy_models/data/fit.npz", "1", "2"): {"data a"},
    ("toy_models/data/a.json", "2", "3"): {"data a"},
    ("toy_models/data/b.json", "3", "4"): set(),
    ("toy_models/data/other.npz", "4", "5"): set(),
    ("analysis/rules/three.py", "", "from analysis.registry import register\n@register('three')\ndef three(): pass"): {
        "sweep"
    },
}


def digests(root: Path) -> dict[str, str]:
    return {name: Sources(root).closure(names).digest for name, names in MEASURES.items()}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit[0]}: {edit[2][:20]}")
def test_an_edit_changes_what_depends_on_it(small, edit):
    name, old, new = edit
    before, path = digests(small), small / name
    text = path.read_text() if path.exists() else ""
    assert old in text
    path.write_text(text.replace(old, new) if old else new)
    after = digests(small)
    assert {measure for measure in MEASURES if before[measure] != after[measure]} == EDITS[edit]


def test_names_that_are_put_together_bring_the_whole_registry(small):
    names = {"toy_models.measures:named"}
    assert {"analysis.rules.one", "analysis.rules.two"} <= set(Sources(small).closure(names).modules)
    assert "analysis.rules.one" not in Sources(small).closure(names | {"prefix:two"}).modules


def test_strings_of_nested_values():
    value = {"a": ["b", ("c", 1, None)], "d": {"e": {"f"}}}
    assert sorted(strings(value)) == ["b", "c", "f"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    for room in ROOMS:
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__", "*.png", "*.md"))
    return root


def keys(root: Path) -> dict[str, list[str]]:
    """The digests of the cells of some experiments, by experiment."""
    found = Sources(root)
    known = claims, convergence, cost_accuracy, estimators, greedy_error, posterior_table
    cells = {module.__name__.rpartition(".")[2]: module.cells(Options(quick=True)) for module in known}
    return {name: [found.closure(strings(asdict(cell))).digest for cell in some] for name, some in cells.items()}


def changed_by(root: Path, name: str, old: str, new: str) -> set[str]:
    """Which experiments have a cell that an edit of the copy makes anew."""
    before, path = keys(root), root / name
    text = path.read_text() if path.exists() else None
    assert text is None or old in text
    path.write_text(new if text is None else text.replace(old, new, 1))
    after = keys(root)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    return {name for name in before if before[name] != after[name]}


NEW = """
from analysis.gradients.registry import register
@register("new")
def new(flow, loss, x, t):
    return x, x
"""


def test_a_new_estimator_makes_no_other_cell_anew(copy):
    assert changed_by(copy, "analysis/gradients/_new.py", "", NEW) == set()


def test_a_new_estimator_is_a_new_cell_of_the_sweeps(copy, monkeypatch):
    """The estimator is in the variants of the cells that sweep over all, and so in their keys."""
    for module in (cost_accuracy, estimators):
        (cell,) = module.cells(Options(quick=True))
        assert {variant.estimator for variant in cell.variants} == set(common.ESTIMATORS)
        assert f"{module.__name__}:cells" not in cell.names()
    sweep = {f"{cost_accuracy.__name__}:cells"}
    before = Sources(copy).closure(sweep)
    (copy / "analysis/gradients/_new.py").write_text(NEW)
    after = Sources(copy).closure(sweep)
    (copy / "analysis/gradients/_new.py").unlink()
    assert set(after.modules) - set(before.modules) == {"analysis.gradients._new"}


def test_a_docstring_a_comment_and_another_experiment_make_no_cell_anew(copy):
    name = "analysis/gradients/_greedy.py"
    assert changed_by(copy, name, '"""', '"""In other words: ') == set()
    assert changed_by(copy, name, "\n@register", "\n# a comment\n@register") == set()
    assert changed_by(copy, "toy_models/experiments/memory.py", "def cells", "X = 1\n\n\ndef cells") == set()
    assert changed_by(copy, "toy_models/experiments/greedy_error.py", "def derive", "def derive_more") == set()


def appended(root: Path, name: str, text: str) -> set[str]:
    """Which experiments have a cell that lines at the end of a file make anew."""
    last = (root / name).read_text().splitlines()[-1]
    return changed_by(root, name, f"\n{last}\n", f"\n{last}\n{text}\n")


def test_an_edit_of_one_estimator_makes_those_cells_anew_that_use_it(copy):
    edited = appended(copy, "analysis/gradients/_pigdm.py", "def _diagonal(*arguments): pass\nprint(1)")
    assert {"cost_accuracy", "estimators"} <= edited
    assert not edited & {"convergence", "greedy_error"}


def test_an_edit_of_a_solver_makes_anew_what_uses_it(copy):
    assert appended(copy, "analysis/solvers/solve.py", "UNUSED = 1") == set()
    edited = appended(copy, "analysis/solvers/solve.py", "solve_vjp = functools.partial(solve_vjp)")
    assert {"convergence", "cost_accuracy"} <= edited
    assert "greedy_error" not in appended(copy, "analysis/solvers/checkpointing.py", "print(1)")


def test_an_edit_of_data_makes_those_cells_anew_that_load_it(copy):
    path = copy / "toy_models/data/digits.npz"
    content, before = path.read_bytes(), keys(copy)
    path.write_bytes(content + b"0")
    after = keys(copy)
    path.write_bytes(content)
    assert {name for name in before if before[name] != after[name]} >= {"posterior_table"}
    assert before["greedy_error"] == after["greedy_error"]


def test_every_measure_and_factory_of_the_repository_is_found():
    """No cell depends on a module that cannot be read, and each on the library."""
    for module in (claims, convergence, cost_accuracy, estimators, greedy_error, posterior_table):
        for cell in module.cells(Options()):
            assert "analysis.experiment" in cell.closure().modules
            assert cell.measure.partition(":")[0] in cell.closure().modules


def test_the_text_of_a_statement_is_the_same_in_every_version_of_python():
    """Written down from Python 3.11, 3.12 and 3.13, whose ``ast.unparse`` quote nested strings differently."""
    (node,) = ast.parse("f\"{x['a']:.2f}\"").body
    assert structure(node) == (
        "Expr(value=JoinedStr(values=[FormattedValue(value=Subscript(value=Name(id='x', ctx=Load()), "
        "slice=Constant(value='a'), ctx=Load()), conversion=-1, "
        "format_spec=JoinedStr(values=[Constant(value='.2f')]))]))"
    )


def test_data_of_another_package_make_nothing_anew(copy):
    """Images and molecules both have networks in files that their modules put together from a name."""
    path, names = copy / "real_models/molecules/weights/flow.safetensors", {"real_models.images:flow", "flow"}
    content, before = path.read_bytes(), Sources(copy).closure(names)
    path.write_bytes(content + b"0")
    after = Sources(copy).closure(names)
    path.write_bytes(content)
    assert "mnist.safetensors" in {file.name for file in before.files}
    assert after.digest == before.digest
