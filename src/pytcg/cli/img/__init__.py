"""pytcg-img."""
