"""Guest programs in C and what boots them: Linux programs beside QEMU and the host."""
