"""Break the suite on purpose, one piece at a time, and say whether its tests notice.

``python -m tests.tools.mutations [WORD ...]`` in the repository's root takes all mutations, or those whose name holds
one of the words: patches of the source, each tried in a temporary copy with the tests nearest to it, and mistakes that
the ledger of claims must turn red. It prints a line for each and ends with exit code 1 where one survives, or where the
tests fail without any.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.tools.patches import PATCHES

ROOT = Path(__file__).parents[2]
LIMIT = 1200  # seconds for the tests of one mutation
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"


def mutated(source, patch):
    """Return the patched source; a patch that does not occur exactly once is out of date."""
    if (count := source.count(patch.old)) != 1:
        raise ValueError(f"{patch.path} holds the code to replace {count} times, not once: {patch.old!r}")
    return source.replace(patch.old, patch.new)


def copy(folder):
    """Copy the files of the repository that git knows or would know."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def run_tests(folder, tests):
    """Return pytest's exit code, 1 where a test fails or the time is up."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=LIMIT).returncode
    except subprocess.TimeoutExpired:
        return 1


def try_patch(folder, patch):
    """Return what the tests say of a patch in a copy of the repository."""
    path = folder / patch.path
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutated(source, patch), encoding="utf-8")
        code = run_tests(folder, patch.tests)
    except ValueError as reason:
        return f"{BROKEN}: {reason}"
    finally:
        path.write_text(source, encoding="utf-8")
    return {0: SURVIVED, 1: KILLED}.get(code, f"{BROKEN}: pytest ends with exit code {code}")


def try_mistake(name):
    """Return what the ledger says of a mistake: it is killed where a claim that must turn red does."""
    from tests.tools.mistakes import EXPECTED, red

    return KILLED if any(red(name, [id]) for id in sorted(EXPECTED[name])) else SURVIVED


def report(name, outcome, start):
    print(f"{outcome:<10}{time.perf_counter() - start:6.0f} s  {name}", flush=True)
    return outcome == KILLED


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.tools.mutations", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="take the mutations whose name holds one of these")
    parser.add_argument("--skip-baseline", action="store_true", help="do not run the tests without a mutation first")
    options = parser.parse_args(arguments)
    words = options.words
    from tests.tools.mistakes import MISTAKES

    patches, mistakes = ([n for n in table if not words or any(w in n for w in words)] for table in (PATCHES, MISTAKES))
    if not patches and not mistakes:
        parser.error(f"no mutation's name holds {' or '.join(words)}")
    good = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        copy(folder)
        start, nearest = time.perf_counter(), sorted({test for name in patches for test in PATCHES[name].tests})
        if nearest and not options.skip_baseline and (code := run_tests(folder, nearest)):
            report("the tests without a mutation", f"{BROKEN}: pytest ends with exit code {code}", start)
            return 1
        for name in patches:
            start = time.perf_counter()
            good.append(report(name, try_patch(folder, PATCHES[name]), start))
    for name in mistakes:
        start = time.perf_counter()
        good.append(report(name, try_mistake(name), start))
    print(f"{sum(good)} of {len(good)} mutations killed")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
