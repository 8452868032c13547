"""Interrupt controllers and the timer that KVM has in the kernel, and their state here."""
