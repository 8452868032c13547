"""Speed of pytcg beside QEMU's TCG and the host CPU: `python -m bench --help`."""
