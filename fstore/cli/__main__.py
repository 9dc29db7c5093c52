"""``python -m fstore.cli``: the same as the command ``fstore``."""

from fstore.cli.main import main

main()
