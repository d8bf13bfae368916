"""`python -m benchmarks.organism_adaptive RUN [ATTACK]... [key=value]...`: `presafe attack` on a demo's aligned model.

Its bare harmful prompts alone are attacked, and benign text is of the organism's world: statements, which ask nothing.
"""

import json
import sys

from benchmarks.organism_attacks import STATEMENTS
from presafe.cli import main

if __name__ == "__main__":
    run, *given = sys.argv[1:]
    main(["attack", run, "suites=[plain]", f"sentences={json.dumps(STATEMENTS)}", *given])
