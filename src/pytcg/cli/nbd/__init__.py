"""pytcg-nbd."""
