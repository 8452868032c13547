"""Inter-VM shared memory: memory and doorbells for several machines (ivshmem-spec)."""
