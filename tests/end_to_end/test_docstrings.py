"""Docstrings that ruff's DOC rules do not reach: those of test files, and errors named in one line.

The truth is the source itself, read by ``ast``: which files have an opening docstring, and which ``raise`` statements
stand in a public function or in the construction of a public class. The checker is tried on a small module first.
"""

import ast

import pytest

from analysis.provenance import ROOT

LEAST = 50  # characters that can say what the truth of a file is
ROOMS = ("analysis", "toy_models", "real_models", "figures")
BUILDERS = ("__init__", "__post_init__")


def raised(function):
    """Names of the exceptions that a function raises itself, not in a function inside it."""
    names, left = set(), list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            names.add(error.attr if isinstance(error, ast.Attribute) else error.id)
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            left += ast.iter_child_nodes(node)
    return {name for name in names if name[0].isupper()}  # what is caught and raised again has the name of a variable


def unnamed(tree, inside=""):
    """Yield "Class.function: Error" for each error that a public docstring does not name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            about = ast.get_docstring(node) or ""
            builders = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name in BUILDERS]
            errors = {error for builder in builders for error in raised(builder)}
            yield from (f"{inside}{node.name}: {error}" for error in errors if error not in about)
            yield from unnamed(node, f"{inside}{node.name}.")
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            about = ast.get_docstring(node) or ""
            yield from (f"{inside}{node.name}: {error}" for error in raised(node) if error not in about)


def test_the_checker_sees_what_is_left_out():
    source = '''
class Door:
    """A door; ``ValueError`` for a wrong key."""
    def __init__(self): raise ValueError("key")
    def open(self):
        """Open it."""
        raise errors.JamError
def shut():
    """Shut it."""
    def inside(): raise TypeError
    try: pass
    except OSError as error: raise error
'''
    assert list(unnamed(ast.parse(source))) == ["Door.open: JamError"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_error_is_named_in_a_docstring(room):
    files = sorted((ROOT / room).rglob("*.py"))
    missing = [f"{path.relative_to(ROOT)}, {name}" for path in files for name in unnamed(ast.parse(path.read_text()))]
    assert not missing


def test_every_test_file_opens_with_what_its_truth_is():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 100
    short = [str(path.relative_to(ROOT)) for path in files if len(opening(path)) < LEAST]
    assert not short


def opening(path):
    return ast.get_docstring(ast.parse(path.read_text())) or ""
