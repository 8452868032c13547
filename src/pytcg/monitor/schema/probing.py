"""Types of what management programs probe by."""

from __future__ import annotations

from pytcg.monitor.schema.types import enum, struct

struct("ObjectTypeInfo", "name: str, *abstract: bool, *parent: str")
struct("ObjectPropertyInfo", "name: str, type: str, *description: str, *default-value: any")
struct("CpuDefinitionInfo", "name: str, *migration-safe: bool, static: bool,"
       " *unavailable-features: [str], typename: str, *alias-of: str,"
       " deprecated: bool")  # fmt: skip
enum("CpuModelExpansionType", "static full")
struct("CpuModelInfo", "name: str, *props: any")
struct("CpuModelExpansionInfo", "model: CpuModelInfo")
struct("HotpluggableCPU", "type: str, vcpus-count: int, props: CpuInstanceProperties,"
       " *qom-path: str")  # fmt: skip
enum("CommandLineParameterType", "string boolean number size")
struct("CommandLineParameterInfo", "name: str, type: CommandLineParameterType, *help: str,"
       " *default: str")  # fmt: skip
struct("CommandLineOptionInfo", "option: str, parameters: [CommandLineParameterInfo]")
struct("CurrentMachineParams", "wakeup-suspend-support: bool")
struct("ChardevBackendInfo", "name: str")
struct("Memdev", "id: str, size: int, merge: bool, dump: bool, prealloc: bool, share: bool,"
       " *reserve: bool, host-nodes: [uint16], policy: HostMemPolicy")  # fmt: skip
enum("HostMemPolicy", "default preferred bind interleave")
struct("IOThreadInfo", "id: str, thread-id: int, poll-max-ns: int, poll-grow: int,"
       " poll-shrink: int, aio-max-batch: int")  # fmt: skip
enum("TpmModel", "tpm-tis tpm-crb")
enum("TpmType", "passthrough emulator")
