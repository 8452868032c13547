"""Types of VNC's commands and events."""

from __future__ import annotations

from pytcg.monitor.schema.types import enum, struct, union

enum("NetworkAddressFamily", "ipv4 ipv6 unix vsock unknown")
enum("VncPrimaryAuth", "none vnc ra2 ra2ne tight ultra tls vencrypt sasl")
struct("VncBasicInfo", "host: str, service: str, family: NetworkAddressFamily, websocket: bool")
struct("VncServerInfo", "*auth: str", base="VncBasicInfo")
struct("VncClientInfo", "*x509_dname: str, *sasl_username: str", base="VncBasicInfo")
struct("VncInfo", "enabled: bool, *host: str, *family: NetworkAddressFamily, *service: str,"
       " *auth: str, *clients: [VncClientInfo]")  # fmt: skip
enum("VncVencryptSubAuth", "plain tls-none x509-none tls-vnc x509-vnc tls-plain x509-plain"
     " tls-sasl x509-sasl")  # fmt: skip
struct("VncServerInfo2", "auth: VncPrimaryAuth, *vencrypt: VncVencryptSubAuth", base="VncBasicInfo")
struct("VncInfo2", "id: str, server: [VncServerInfo2], clients: [VncClientInfo],"
       " auth: VncPrimaryAuth, *vencrypt: VncVencryptSubAuth, *display: str")  # fmt: skip
enum("DisplayProtocol", "vnc spice")
enum("SetPasswordAction", "keep fail disconnect")
struct("SetPasswordOptionsVnc", "*display: str")
union("SetPasswordOptions", "protocol: DisplayProtocol, password: str,"
      " *connected: SetPasswordAction", "protocol", {"vnc": "SetPasswordOptionsVnc"})  # fmt: skip
struct("ExpirePasswordOptionsVnc", "*display: str")
union("ExpirePasswordOptions", "protocol: DisplayProtocol, time: str", "protocol",
      {"vnc": "ExpirePasswordOptionsVnc"})  # fmt: skip
