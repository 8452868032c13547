"""QMP's commands on disks: what there is, media, nodes, jobs, exports."""
