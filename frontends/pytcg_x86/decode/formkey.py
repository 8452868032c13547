"""Form keys: everything that is fixed in a form's handler, as bit fields of one number.

The row in bits 0-11; sizes as codes (8 << code bits); what the memory operand's address is made of;
how its segment is treated; the REP prefix; VEX.L; and, for a superinstruction, the row of the
conditional jump that follows.
"""

from __future__ import annotations

from pytcg.exec.layout import RELATIVE as RELATIVE

# Position of each field.
KEY_OPERAND, KEY_ADDRESS, KEY_STACK, KEY_CODE = 12, 14, 16, 18
KEY_REP, KEY_EA, KEY_SEGMENT, KEY_SEGMENTED, KEY_DEAD, KEY_LENGTH = 20, 22, 24, 26, 28, 29
KEY_SECOND = 32

ROW_MASK = 0xFFF
INVALID, NM = 0, 1
"""Rows that are no instruction: #UD and #NM."""

SIZE16, SIZE32, SIZE64 = 1, 2, 3
EA_NONE, EA_DISP, EA_BASE, EA_SIB = range(4)
FLAT, ADD_BASE, CHECKED = range(3)
REPZ, REPNZ = 1, 2

