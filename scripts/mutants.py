#!/usr/bin/env python
"""Mutation testing with mutmut: find small changes of the code that no test notices.

    python scripts/mutants.py [--module losses packing] [--sample 60]

Tests every mutant that is not killed yet, then prints the survivors and the score of each file. The settings
are [tool.mutmut] in pyproject.toml. tests/equivalent_mutants.toml lists survivors that no test can kill.
Results are kept in mutants/: delete that folder to start again.
"""

import argparse
import contextlib
import os
import random
import tomllib
from collections import Counter
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # mutmut forks: no threads of torch's

from mutmut import __main__ as mutmut
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_module_from_key, orig_function_and_class_names_from_key

EQUIVALENT = Path("tests/equivalent_mutants.toml")
KILLED = ("killed", "timeout", "segfault", "suspicious")
SEED = 0


def main() -> None:
    """Run the mutants of the options, and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--module", nargs="*", default=[""], help="only files with this in their path: losses, ranks.py"
    )
    parser.add_argument("--sample", type=int, help="at most this many mutants of each file, drawn at random")
    parser.add_argument("--summary", action="store_true", help="run nothing, print the results so far")
    args = parser.parse_args()
    if not args.summary:
        generate()
    chosen = choose(args.module, args.sample)
    if not chosen:
        parser.error(f"no file of [tool.mutmut] only_mutate has {' or '.join(args.module)!r} in its path.")
    names = [name for path in chosen for name in chosen[path] if status(path)[name] not in KILLED]
    if names and not args.summary:
        # so that mutmut looks again which test calls which function
        Path("mutants/mutmut-stats.json").unlink(missing_ok=True)
        mutmut._run(names, max_children=1)
    print_summary(chosen)


def generate() -> None:
    """Write the mutants into mutants/, as `mutmut run` does first."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(max_children=1)


def status(path: Path) -> dict[str, str]:
    """Mutant -> killed, survived, no tests, not checked, ..."""
    data = SourceFileMutationData(path=path)
    data.load()
    return {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}


def choose(modules: list[str], sample: int | None) -> dict[Path, list[str]]:
    """The mutants of each file, or a sample of them: the same in every run."""
    chosen = {}
    for path in sorted(walk_mutatable_files()):
        names = list(status(path))
        if names and any(fits(path, module) for module in modules):
            few = sample is not None and sample < len(names)
            chosen[path] = random.Random(SEED).sample(names, sample or 0) if few else names
    return chosen


def fits(path: Path, module: str) -> bool:
    """Whether a file is of a module, which is given as losses, losses.mixup, mixup.py or losses/mixup.py."""
    return module.removesuffix(".py").replace(".", "/") in str(path.with_suffix(""))


def stale(explained: set[str], survivors: set[str], whole: set[str], modules: set[str]) -> list[str]:
    """Entries of the list of equivalent mutants that explain no survivor.

    whole: the modules of which all mutants were tested. modules: all that have mutants; the entries of others
    are stale too.
    """
    found = []
    for key in explained - survivors:
        where = key.partition(":")[0]
        of = max((name for name in modules if where.startswith(f"{name}.")), key=len, default=None)
        if of is None or of in whole:
            found.append(key)
    return sorted(found)


def described(name: str, path: Path) -> tuple[str, str]:
    """(function: what the mutant has in place of the original, and the difference in lines)."""
    changed = [line for line in get_diff_for_mutant(name, path=path).splitlines()[2:] if line[0] in "+-"]
    new = " ".join(line[1:].strip() for line in changed if line[0] == "+" and line.strip("+ )"))
    new = new or "without " + " ".join(line[1:].strip() for line in changed if line.strip("- )"))
    function, of_class = orig_function_and_class_names_from_key(name)
    where = ".".join(filter(None, (get_module_from_key(name), of_class, function)))
    return f"{where}: {new}", "\n".join(f"    {line[0]} {line[1:].strip()}" for line in changed)


def print_summary(chosen: dict[Path, list[str]]) -> None:
    """Survivors that the list of equivalent mutants lacks, its stale entries, and a line for each file."""
    explained = {key for entry in tomllib.loads(EQUIVALENT.read_text())["group"] for key in entry["mutants"]}
    lines, total = [], Counter[str]()
    survivors, whole = set[str](), set[str]()
    for path, names in chosen.items():
        found, all_mutants = Counter[str](), status(path)
        for name in names:
            result = all_mutants[name]
            kind = "killed" if result in KILLED else "waiting" if result == "not checked" else "survived"
            if kind == "survived":
                key, difference = described(name, path)
                survivors.add(key)
                kind = "equivalent" if key in explained else kind
                if kind == "survived":
                    print(f"{result}: {name}\n  {key!r}\n{difference}")
            found[kind] += 1
        if len(names) == len(all_mutants) and not found["waiting"]:
            whole.add(module_of(path))
        lines.append(line(str(path), found, len(names), len(all_mutants)))
        total += found
    for key in stale(explained, survivors, whole, set(map(module_of, walk_mutatable_files()))):
        print(f"{EQUIVALENT}: no survivor any more, remove it: {key!r}")
    header = f"{'':38} {'score':>6} {'killed':>7} {'survived':>9} {'equivalent':>11}  tested"
    print(header, *lines, line("all", total, sum(total.values()), None), sep="\n")


def module_of(path: Path) -> str:
    """The module of a file: mmpt/losses/__init__.py is mmpt.losses."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def line(name: str, found: Counter[str], tested: int, of: int | None) -> str:
    """One line of the table. Score: killed mutants in percent, without the equivalent ones."""
    relevant = found["killed"] + found["survived"]
    score = f"{100 * found['killed'] / relevant:.0f} %" if relevant else "-"
    sampled = "" if of is None or of == tested else f" of {of}, sampled"
    counts = f"{found['killed']:7} {found['survived']:9} {found['equivalent']:11}"
    return f"{name:38} {score:>6} {counts}  {tested - found['waiting']}{sampled}"


if __name__ == "__main__":
    main()
