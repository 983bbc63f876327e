"""`python -m raysubset.cli` is `raysubset`."""

from raysubset.cli import main

main()
