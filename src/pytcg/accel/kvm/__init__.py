"""KVM: the guest on the host's own processor (Linux' Documentation/virt/kvm/api.rst)."""
