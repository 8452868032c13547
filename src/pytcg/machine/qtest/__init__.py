"""`-accel qtest`: no guest code runs; a test drives devices and clock by QEMU's protocol."""
