"""Protection: segments, gates, paging, MSRs, control registers, CPUID, CPU models."""
