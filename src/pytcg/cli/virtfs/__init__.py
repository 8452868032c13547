"""pytcg-virtfs-proxy-helper."""
