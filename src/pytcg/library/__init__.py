"""The parts of `pytcg.Cpu`: memory, registers, hooks, snapshots, loaders."""
