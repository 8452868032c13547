"""The IR evaluated in plain Python: the living definition of each op, the oracle of the others."""
