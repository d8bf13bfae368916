"""`python -m presafe VERB`, where the console script is not at hand."""

from presafe.cli import main

main()
