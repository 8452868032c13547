"""`python -m pytcg.cli.nbd`."""

import sys

from pytcg.cli.nbd.main import main

sys.exit(main())
