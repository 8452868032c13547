"""`python -m pytcg.cli.system`."""

import sys

from pytcg.cli.system.main import main

sys.exit(main())
