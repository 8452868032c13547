"""The machine's monitor: QMP, the protocol of those who script machines."""
