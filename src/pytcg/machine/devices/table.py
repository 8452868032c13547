"""THE table of device models. Building one imports its module; listing them imports nothing."""

from __future__ import annotations

from typing import Final

from pytcg.machine.devices.model import PCI, Model, Property

BLOCK: Final = (
    Property("drive", "str", help="the drive or block node behind it"),
    Property("bootindex", "int32", help="its place in the boot order"),
    Property("serial", "str", help="serial number"),
    Property("rerror", "str", "auto", "when reads fail: ignore, report, stop"),
    Property("werror", "str", "auto", "when writes fail: ignore, report, stop, enospc"),
    Property("write-cache", "OnOffAuto", help="whether it says that it has a write cache"),
)
IDE: Final = (*BLOCK, Property("unit", "uint32", help="0 for the master, 1 for the slave"),
              Property("model", "str", help="model name"),
              Property("ver", "str", help="firmware version"),
              Property("wwn", "uint64", 0, help="world wide name"))  # fmt: skip

VIRTIO: Final = (
    *PCI,
    Property("disable-legacy", "OnOffAuto", help="without the transport of before virtio 1.0"),
    Property("disable-modern", "bool", False),
    Property("packed", "bool", False, "offer packed rings"),
    Property("indirect_desc", "bool", True),
    Property("event_idx", "bool", True),
    Property("vectors", "uint32", help="MSI-X vectors; 0: none"),
)

IOTHREAD: Final = Property("iothread", "str",
                           help="accepted; requests have threads of their own")

SCSI: Final = (*BLOCK, Property("scsi-id", "uint32", help="target, the first free one if not set"),
               Property("lun", "uint32", 0),
               Property("vendor", "str", "QEMU"),
               Property("product", "str", help="product name"),
               Property("ver", "str", help="revision"))  # fmt: skip

SERIAL_PORT: Final = (Property("nr", "uint32", help="the port's number"),
                      Property("name", "str", help="by which the guest finds it"),
                      Property("chardev", "str", help="the character device"))  # fmt: skip

MODELS: Final = (
    Model("virtio-blk-pci", "PCI", "virtio disk", "virtio:build_blk",
          (*VIRTIO, *BLOCK, IOTHREAD)),
    Model("virtio-scsi-pci", "PCI", "virtio SCSI adapter", "scsi:build_adapter",
          (*VIRTIO, IOTHREAD)),
    Model("virtio-rng-pci", "PCI", "virtio entropy source", "virtio:build_rng",
          (*VIRTIO, Property("rng", "str", help="an rng-builtin or rng-random"),
           Property("max-bytes", "uint64", (1 << 63) - 1, help="the most in a period"),
           Property("period", "uint32", 1 << 16, help="in milliseconds"))),
    Model("virtio-balloon-pci", "PCI", "virtio memory balloon", "virtio:build_balloon",
          (*VIRTIO, Property("deflate-on-oom", "bool", False))),
    Model("virtio-serial-pci", "PCI", "virtio serial ports and consoles",
          "virtio_serial:build_card",
          (*VIRTIO, Property("max_ports", "uint32", 31, "as many ports fit, 0 included"),
           Property("emergency-write", "bool", True))),
    Model("virtserialport", "virtio-serial-bus", "port that a guest's program opens by its name",
          "virtio_serial:build_port", SERIAL_PORT),
    Model("virtconsole", "virtio-serial-bus", "console (hvc0)", "virtio_serial:build_console",
          SERIAL_PORT),
    *(Model(f"virtio-{name}-pci", "PCI", f"virtio {name}", f"virtio_input:build_{name}",
            (*VIRTIO, Property("serial", "str", help="serial number")))
      for name in ("keyboard", "mouse", "tablet")),
    Model("virtio-9p-pci", "PCI", "virtio file server (9P)", "ninep:build",
          (*VIRTIO, Property("fsdev", "str", help="the shared folder"),
           Property("mount_tag", "str", help="by which the guest mounts it"))),
    Model("nvme", "PCI", "Non-Volatile Memory Express", "nvme:build_controller",
          (*PCI, *BLOCK, Property("max_ioqpairs", "uint32", 64, "pairs of I/O queues"),
           Property("msix_qsize", "uint16", 65, "interrupt vectors"))),
    Model("nvme-ns", "nvme-bus", "Virtual NVMe namespace", "nvme:build_namespace",
          (*(row for row in BLOCK if row.name in ("drive", "bootindex")),
           Property("nsid", "uint32", 0, "its number, the first free one if 0"))),
    Model("ich9-ahci", "PCI", "SATA controller of six ports (AHCI)", "ahci:build", PCI),
    Model("scsi-hd", "SCSI", "virtual SCSI disk", "scsi:build_disk", SCSI),
    Model("scsi-cd", "SCSI", "virtual SCSI CD-ROM", "scsi:build_cdrom", SCSI),
    Model("ide-hd", "IDE", "virtual IDE disk", "ide:build_disk", IDE),
    Model("ide-cd", "IDE", "virtual IDE CD-ROM", "ide:build_cdrom", IDE),
    Model("floppy", "floppy-bus", "virtual floppy drive", "floppy:build",
          (*(row for row in BLOCK if row.name in ("drive", "bootindex")),
           Property("unit", "uint32", help="0 for the first drive, 1 for the second"),
           Property("drive-type", "str", "auto", "144, 288, 120 or auto: what fits the disk"))),
    Model("ivshmem-plain", "PCI", "inter-VM shared memory", "ivshmem:build_plain",
          (*PCI, Property("memdev", "str", help="the memory backend"),
           Property("master", "OnOffAuto", help="accepted; nothing migrates"))),
    Model("ivshmem-doorbell", "PCI", "inter-VM shared memory with interrupts",
          "ivshmem:build_doorbell",
          (*PCI, Property("chardev", "str", help="a socket to the ivshmem server"),
           Property("vectors", "uint32", 1, "interrupt vectors"),
           Property("ioeventfd", "bool", True, "accepted; doorbells are stores either way"),
           Property("master", "OnOffAuto", help="accepted; nothing migrates"))),
    Model("VGA", "PCI", "standard VGA", "vga:build",
          (*PCI, Property("vgamem_mb", "uint32", 16, "MiB of its memory: 16"))),
    Model("piix3-usb-uhci", "PCI", "USB controller (UHCI) with empty ports", "usb:build_uhci",
          PCI),
    Model("edu", "PCI", "QEMU's educational device", "debug:build_edu",
          (*PCI, Property("dma_mask", "uint64", (1 << 28) - 1, help="addresses it can reach"))),
    Model("pc-testdev", "ISA", "ports and memory for test kernels", "debug:build_testdev"),
    Model("isa-serial", "ISA", "serial port", "serial:build_isa_serial",
          (Property("index", "uint32", help="0 to 3, the next free one if not set"),
           Property("iobase", "uint16", help="first port"),
           Property("irq", "uint32", help="ISA interrupt"),
           Property("chardev", "str", help="the character device"))),
    Model("isa-parallel", "ISA", "parallel port", "parallel:build_isa_parallel",
          (Property("index", "uint32", help="0 to 2, the next free one if not set"),
           Property("iobase", "uint16", help="first port"),
           Property("irq", "uint32", 7, help="ISA interrupt"),
           Property("chardev", "str", help="the character device"))),
    Model("isa-debugcon", "ISA", "bytes written to iobase go to a character device",
          "debug:build_console",
          (Property("iobase", "uint16", 0xE9, help="the port"),
           Property("readback", "uint8", 0xE9, help="what the port reads as"),
           Property("chardev", "str", help="the character device"))),
    Model("isa-debug-exit", "ISA", "a write to iobase ends the emulator", "debug:build_exit",
          (Property("iobase", "uint16", 0x501, help="first port"),
           Property("iosize", "uint8", 2, help="number of ports"))),
)  # fmt: skip

ALIASES: Final = {"ahci": "ich9-ahci"} | {
    f"virtio-{kind}": f"virtio-{kind}-pci" for kind in (
        "blk", "scsi", "rng", "balloon", "serial", "keyboard", "mouse", "tablet", "9p")}
BY_NAME: Final = {model.name: model for model in MODELS}
BY_NAME.update({alias: BY_NAME[name] for alias, name in ALIASES.items()})


def listing() -> str:
    """What `-device help` prints: by bus."""
    text = ""
    for bus in dict.fromkeys(model.bus for model in MODELS):
        text += f"{bus} devices:\n"
        for model in MODELS:
            if model.bus == bus:
                also = [alias for alias, name in ALIASES.items() if name == model.name]
                alias = f'alias "{also[0]}", ' if also else ""
                text += f'name "{model.name}", bus {bus}, {alias}desc "{model.help}"\n'
        text += "\n"
    return text
