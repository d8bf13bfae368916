"""`python -m presafe.organism.real_text DATA`: teach seed 0's adapter anew, for the one that ships with the code."""

import shutil
import sys
from pathlib import Path

from presafe.organism.real_text.adapter import FILES, SHIPPED
from presafe.organism.real_text.options import Recipe
from presafe.organism.real_text.teaching import taught


def main() -> None:
    folder = taught("runs/models", Recipe(seed=0), sys.argv[1])
    SHIPPED.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copyfile(Path(folder, file), SHIPPED / file)
    print(f"{SHIPPED}: of {folder}")


if __name__ == "__main__":
    main()
