"""Types of keys and pointers."""

from __future__ import annotations

from pytcg.monitor.schema.types import enum, struct, union

struct("IntWrapper", "data: int")
union("KeyValue", "type: KeyValueKind", "type",
      {"number": "IntWrapper", "qcode": "QKeyCodeWrapper"})  # fmt: skip
struct("MouseInfo", "name: str, index: int, current: bool, absolute: bool")
enum("InputButton", "left middle right wheel-up wheel-down side extra")
enum("InputAxis", "x y")
enum("InputEventKind", "key btn rel abs")
struct("InputKeyEvent", "key: KeyValue, down: bool")
struct("InputBtnEvent", "button: InputButton, down: bool")
struct("InputMoveEvent", "axis: InputAxis, value: int")
for _name in ("Key", "Btn", "Move"):
    struct(f"Input{_name}EventWrapper", f"data: Input{_name}Event")
union("InputEvent", "type: InputEventKind", "type",
      {"key": "InputKeyEventWrapper", "btn": "InputBtnEventWrapper",
       "rel": "InputMoveEventWrapper", "abs": "InputMoveEventWrapper"})  # fmt: skip
