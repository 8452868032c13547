"""pytcg-io."""
