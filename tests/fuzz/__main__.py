"""`python -m tests.fuzz [MUTANTS [SEED]]`: so many mutants of all files that are read back, and what came of them."""

from __future__ import annotations

import sys

from tests.fuzz.run import MODULES, fuzz

if __name__ == "__main__":
    count, seed = [*map(int, sys.argv[1:]), *(10_000, 0)[len(sys.argv) - 1 :]]
    failed = False
    for module in MODULES:
        report = fuzz(module, range(count // len(MODULES)), seed)
        failed |= bool(report.faults)
        sys.stdout.write("\n".join([module, *report.lines(), ""]) + "\n")
    sys.exit(failed)
