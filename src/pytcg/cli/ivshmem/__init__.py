"""`pytcg-ivshmem-server` and `pytcg-ivshmem-client`."""
