"""Jobs: what copies or measures whole disks."""
