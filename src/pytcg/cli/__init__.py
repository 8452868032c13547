"""The programs: command lines, messages and exit codes."""

import gc

# Looking for cycles while modules are imported takes longer than what is found is worth
# (bench/disk.py, "create"); what runs for long makes enough objects to be looked through.
gc.set_threshold(20_000)
