"""The bridges of Intel's 440FX PCIset: i440FX, PIIX3, PIIX4's power management, and fw_cfg."""
