"""Differential fuzzing: random instruction sequences on several engines, which must agree."""
