"""pytcg-system-x86_64."""
