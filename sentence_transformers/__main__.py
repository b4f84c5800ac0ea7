"""``python -m sentence_transformers`` is the program ``sentence-transformers``."""

import sys

from sentence_transformers.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
