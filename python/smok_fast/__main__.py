"""``python -m smok_fast`` is the command ``smok-fast``."""

from smok_fast.cli import main

main()
