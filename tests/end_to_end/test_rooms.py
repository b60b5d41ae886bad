"""The rooms and their arrows. The truth is the source's own ``import`` statements, read without running it.

The checker is tried on small trees first, each with one import against one rule.
"""

from pathlib import Path

import pytest

from tests.support.rooms import ROOMS, Tree, circle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tree():
    return Tree(ROOT)


def test_every_module_is_read(tree):
    assert len(tree.imports) > 150
    assert ("analysis.gradients.registry", "analysis.flow") in tree.edges()


def test_no_module_imports_itself_by_way_of_others(tree):
    assert circle(tree.between_modules()) == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_folder_of_a_room_imports_itself_by_way_of_others(tree, room):
    assert circle(tree.between_folders(room)) == []


def test_arrows_between_the_rooms_point_down(tree):
    assert tree.forbidden() == set()


def test_no_figure_reaches_torch(tree):
    figures = [name for name in tree.imports if name.startswith("figures")]
    assert [name for name in figures if "torch" in tree.reach(name)] == []


def planted(folder, **files):
    """A tree of modules, given as "room__folder__module" and their source; every folder is a package."""
    for name, source in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        for parent in path.relative_to(folder).parents:
            if str(parent) != ".":
                (folder / parent / "__init__.py").touch()
    return Tree(folder)


def test_a_clean_tree_passes(tmp_path):
    tree = planted(
        tmp_path,
        analysis__flow="import torch\nfrom analysis import paths",
        analysis__paths="import numpy",
        analysis__tables="import pandas",
        analysis__experiment="import pandas\nfrom analysis.flow import Flow",
        toy_models__problems__zoo="from analysis.flow import Flow",
        real_models__images="from toy_models.problems import zoo\nDATA = 'toy_models.problems.zoo:subject'",
        figures__style__looks="import matplotlib",
        figures__bench="from figures.style import looks\nfrom analysis.tables import only",
    )
    assert tree.forbidden() == set()
    assert circle(tree.between_modules()) == []


AGAINST = {
    "the library imports another room": ("analysis__flow", "from toy_models import zoo"),
    "the library imports a test": ("analysis__flow", "import tests.support"),
    "the lower part imports pandas": ("analysis__flow", "import pandas as pd"),
    "the lower part imports the upper one": ("analysis__flow", "from analysis.experiment import Cell"),
    "an import that only types need": (
        "analysis__flow",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from analysis.claims import Case",
    ),
    "an import inside a function": ("analysis__flow", "def f():\n    import joblib"),
    "a relative import": ("analysis__paths__affine", "from ..experiment import Cell"),
    "an object named by a string": ("analysis__runner", "MEASURE = 'real_models.images:subject'"),
    "analytic flows import learned ones": ("toy_models__zoo", "import real_models.images"),
    "analytic flows import a figure": ("toy_models__zoo", "from figures import style"),
    "learned flows import claims of analytic ones": ("real_models__claims", "from toy_models.claims import common"),
    "learned flows import the zoo's package": ("real_models__claims", "from toy_models import MixtureFlow"),
    "a figure imports another": ("figures__dial", "from figures.bench import LOOKS"),
    "a figure imports torch": ("figures__dial", "import torch"),
    "a figure imports an experiment": ("figures__dial", "from toy_models.experiments import dial"),
    "a figure computes": ("figures__dial", "from analysis.intervals import interval"),
}
OTHERS = {
    "analysis__experiment": "",
    "analysis__claims": "",
    "analysis__intervals": "",
    "toy_models__claims__common": "",
    "toy_models__experiments__dial": "",
    "real_models__images": "",
    "figures__bench": "",
    "figures__style": "",
}


@pytest.mark.parametrize("rule", AGAINST)
def test_an_import_against_a_rule_is_found(tmp_path, rule):
    module, source = AGAINST[rule]
    tree = planted(tmp_path, **OTHERS | {module: source})
    ((name, _),) = tree.forbidden()
    assert name == module.replace("__", ".")


@pytest.mark.parametrize("late", ["from analysis.a import f", "def g():\n    from analysis.a import f"])
def test_a_circle_of_modules_is_found(tmp_path, late):
    tree = planted(tmp_path, analysis__a="from analysis import b", analysis__b="import analysis.c", analysis__c=late)
    assert set(circle(tree.between_modules())) == {"analysis.a", "analysis.b", "analysis.c"}


def test_a_circle_of_folders_is_found_where_no_module_is_in_one(tmp_path):
    tree = planted(
        tmp_path,
        toy_models__claims__a="from toy_models.experiments import b",
        toy_models__experiments__b="",
        toy_models__experiments__c="from toy_models.claims.a import f",
    )
    assert circle(tree.between_modules()) == []
    assert set(circle(tree.between_folders("toy_models"))) == {"toy_models.claims", "toy_models.experiments"}


def test_what_a_module_reaches_counts_its_packages(tmp_path):
    tree = planted(tmp_path, figures__bench="from analysis.tables import only", analysis__tables="import pandas")
    assert "torch" not in tree.reach("figures.bench")
    (tmp_path / "analysis" / "__init__.py").write_text("import torch")
    assert "torch" in Tree(tmp_path).reach("figures.bench")
