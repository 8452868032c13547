"""`python -m pytcg.explore`: what becomes of a piece of guest code, stage by stage."""
