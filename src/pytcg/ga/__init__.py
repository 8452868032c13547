"""The guest agent: what qemu-ga does, for any guest that has a Python 3.9 and nothing else.

Nothing here imports the rest of pytcg: `python -m pytcg.ga.bundle FILE` makes one file of it.
"""
