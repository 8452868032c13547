"""Types of what is asked of and told about a machine as a whole."""

from __future__ import annotations

from typing import Final

from pytcg.machine.runner import RunState
from pytcg.monitor.schema.types import enum, struct, union
from pytcg.ui.keys import names

CAPABILITIES: Final = (
    "xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "events", "postcopy-ram",
    "release-ram", "return-path", "pause-before-switchover", "multifd",
)  # fmt: skip

enum("QMPCapability", "oob")
struct("VersionTriple", "major: int, minor: int, micro: int")
struct("VersionInfo", "qemu: VersionTriple, package: str")
struct("CommandInfo", "name: str")
enum("RunState", " ".join(state.value for state in RunState))
struct("StatusInfo", "running: bool, singlestep: bool, status: RunState")
struct("NameInfo", "*name: str")
struct("UuidInfo", "UUID: str")
struct("KvmInfo", "enabled: bool, present: bool")
enum("SysEmuTarget", "x86_64")
struct("TargetInfo", "arch: SysEmuTarget")
struct("CpuInstanceProperties", "*node-id: int, *socket-id: int, *die-id: int, *core-id: int,"
       " *thread-id: int")  # fmt: skip
struct("CpuInfoFast", "cpu-index: int, qom-path: str, thread-id: int,"
       " *props: CpuInstanceProperties, target: SysEmuTarget")  # fmt: skip
struct("MachineInfo", "name: str, *alias: str, *is-default: bool, cpu-max: int,"
       " hotpluggable-cpus: bool, numa-mem-supported: bool, deprecated: bool,"
       " *default-cpu-type: str, *default-ram-id: str")  # fmt: skip
struct("MemoryInfo", "base-memory: size, *plugged-memory: size")
struct("BalloonInfo", "actual: int")
struct("ChardevInfo", "label: str, filename: str, frontend-open: bool")
enum("DataFormat", "utf8 base64")
enum("ImageFormat", "ppm png")
enum("KeyValueKind", "number qcode")
enum("QKeyCode", " ".join(names()))
struct("QKeyCodeWrapper", "data: QKeyCode")
enum("MigrationStatus", "none setup cancelled active completed failed")
struct("MigrationInfo", "*status: MigrationStatus, *error-desc: str")
enum("MigrationCapability", " ".join(CAPABILITIES))
struct("MigrationCapabilityStatus", "capability: MigrationCapability, state: bool")

# The schema's own.
enum("SchemaMetaType", "builtin enum array object alternate command event")
enum("JSONType", "string number int boolean null object array value")
struct("SchemaInfoBuiltin", "json-type: JSONType")
struct("SchemaInfoEnumMember", "name: str")
struct("SchemaInfoEnum", "members: [SchemaInfoEnumMember], values: [str]")
struct("SchemaInfoArray", "element-type: str")
struct("SchemaInfoObjectMember", "name: str, type: str, *default: any")
struct("SchemaInfoObjectVariant", "case: str, type: str")
struct("SchemaInfoObject", "members: [SchemaInfoObjectMember], *tag: str,"
       " *variants: [SchemaInfoObjectVariant]")  # fmt: skip
struct("SchemaInfoAlternateMember", "type: str")
struct("SchemaInfoAlternate", "members: [SchemaInfoAlternateMember]")
struct("SchemaInfoCommand", "arg-type: str, ret-type: str, *allow-oob: bool")
struct("SchemaInfoEvent", "arg-type: str")
union("SchemaInfo", "name: str, meta-type: SchemaMetaType, *features: [str]", "meta-type", {
    "builtin": "SchemaInfoBuiltin", "enum": "SchemaInfoEnum", "array": "SchemaInfoArray",
    "object": "SchemaInfoObject", "alternate": "SchemaInfoAlternate",
    "command": "SchemaInfoCommand", "event": "SchemaInfoEvent",
})  # fmt: skip
