"""`python -m pytcg.cli.io`."""

import sys

from pytcg.cli.io.main import main

sys.exit(main())
