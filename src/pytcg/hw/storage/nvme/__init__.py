"""NVMe: a controller with one namespace (NVM Express 1.4), one concern a file."""
