"""The x87 part of the instruction table.

ST(i) is written Nq: register rm of the file that MMX shares. Encodings that assemblers give a
second name (FXCH4, FSTP8, …) are rows of the instruction they repeat; a suffix _STI marks the forms
of DC whose destination is ST(i).
"""

from __future__ import annotations

from pytcg_x86.decode.table import rows

rows("""
d8/0/m     FADD     Md   fpu nosize
d8/1/m     FMUL     Md   fpu nosize
d8/2/m     FCOM     Md   fpu nosize
d8/3/m     FCOMP    Md   fpu nosize
d8/4/m     FSUB     Md   fpu nosize
d8/5/m     FSUBR    Md   fpu nosize
d8/6/m     FDIV     Md   fpu nosize
d8/7/m     FDIVR    Md   fpu nosize
d8/0/r     FADD     Nq   fpu nosize
d8/1/r     FMUL     Nq   fpu nosize
d8/2/r     FCOM     Nq   fpu nosize
d8/3/r     FCOMP    Nq   fpu nosize
d8/4/r     FSUB     Nq   fpu nosize
d8/5/r     FSUBR    Nq   fpu nosize
d8/6/r     FDIV     Nq   fpu nosize
d8/7/r     FDIVR    Nq   fpu nosize

d9/0/m     FLD      Md   fpu nosize
d9/2/m     FST      Md   fpu nosize
d9/3/m     FSTP     Md   fpu nosize
d9/4/m     FLDENV   M    fpu
d9/5/m     FLDCW    Mw   fpu nosize
d9/6/m     FNSTENV  M    fpu
d9/7/m     FNSTCW   Mw   fpu nosize
d9/0/r     FLD      Nq   fpu nosize
d9/1/r     FXCH     Nq   fpu nosize
d9/2/r0    FNOP          fpu nosize
d9/3/r     FSTPNCE  Nq   fpu nosize
d9/4/r0    FCHS          fpu nosize
d9/4/r1    FABS          fpu nosize
d9/4/r4    FTST          fpu nosize
d9/4/r5    FXAM          fpu nosize
d9/5/r0    FLD1          fpu nosize
d9/5/r1    FLDL2T        fpu nosize
d9/5/r2    FLDL2E        fpu nosize
d9/5/r3    FLDPI         fpu nosize
d9/5/r4    FLDLG2        fpu nosize
d9/5/r5    FLDLN2        fpu nosize
d9/5/r6    FLDZ          fpu nosize
d9/6/r0    F2XM1         fpu nosize
d9/6/r1    FYL2X         fpu nosize
d9/6/r2    FPTAN         fpu nosize
d9/6/r3    FPATAN        fpu nosize
d9/6/r4    FXTRACT       fpu nosize
d9/6/r5    FPREM1        fpu nosize
d9/6/r6    FDECSTP       fpu nosize
d9/6/r7    FINCSTP       fpu nosize
d9/7/r0    FPREM         fpu nosize
d9/7/r1    FYL2XP1       fpu nosize
d9/7/r2    FSQRT         fpu nosize
d9/7/r3    FSINCOS       fpu nosize
d9/7/r4    FRNDINT       fpu nosize
d9/7/r5    FSCALE        fpu nosize
d9/7/r6    FSIN          fpu nosize
d9/7/r7    FCOS          fpu nosize

da/0/m     FIADD    Md   fpu nosize
da/1/m     FIMUL    Md   fpu nosize
da/2/m     FICOM    Md   fpu nosize
da/3/m     FICOMP   Md   fpu nosize
da/4/m     FISUB    Md   fpu nosize
da/5/m     FISUBR   Md   fpu nosize
da/6/m     FIDIV    Md   fpu nosize
da/7/m     FIDIVR   Md   fpu nosize
da/0/r     FCMOVB   Nq   fpu nosize ?cmov
da/1/r     FCMOVE   Nq   fpu nosize ?cmov
da/2/r     FCMOVBE  Nq   fpu nosize ?cmov
da/3/r     FCMOVU   Nq   fpu nosize ?cmov
da/5/r1    FUCOMPP       fpu nosize

db/0/m     FILD     Md   fpu nosize
db/1/m     FISTTP   Md   fpu nosize ?sse3
db/2/m     FIST     Md   fpu nosize
db/3/m     FISTP    Md   fpu nosize
db/5/m     FLD80    M    fpu nosize
db/7/m     FSTP80   M    fpu nosize
db/0/r     FCMOVNB  Nq   fpu nosize ?cmov
db/1/r     FCMOVNE  Nq   fpu nosize ?cmov
db/2/r     FCMOVNBE Nq   fpu nosize ?cmov
db/3/r     FCMOVNU  Nq   fpu nosize ?cmov
db/4/r0    FNENI         fpu nosize
db/4/r1    FNDISI        fpu nosize
db/4/r2    FNCLEX        fpu nosize
db/4/r3    FNINIT        fpu nosize
db/4/r4    FNSETPM       fpu nosize
db/5/r     FUCOMI   Nq   fpu nosize ?cmov
db/6/r     FCOMI    Nq   fpu nosize ?cmov

dc/0/m     FADD     Mq   fpu nosize
dc/1/m     FMUL     Mq   fpu nosize
dc/2/m     FCOM     Mq   fpu nosize
dc/3/m     FCOMP    Mq   fpu nosize
dc/4/m     FSUB     Mq   fpu nosize
dc/5/m     FSUBR    Mq   fpu nosize
dc/6/m     FDIV     Mq   fpu nosize
dc/7/m     FDIVR    Mq   fpu nosize
dc/0/r     FADD_STI   Nq fpu nosize
dc/1/r     FMUL_STI   Nq fpu nosize
dc/2/r     FCOM     Nq   fpu nosize
dc/3/r     FCOMP    Nq   fpu nosize
dc/4/r     FSUBR_STI  Nq fpu nosize
dc/5/r     FSUB_STI   Nq fpu nosize
dc/6/r     FDIVR_STI  Nq fpu nosize
dc/7/r     FDIV_STI   Nq fpu nosize

dd/0/m     FLD      Mq   fpu nosize
dd/1/m     FISTTP   Mq   fpu nosize ?sse3
dd/2/m     FST      Mq   fpu nosize
dd/3/m     FSTP     Mq   fpu nosize
dd/4/m     FRSTOR   M    fpu
dd/6/m     FNSAVE   M    fpu
dd/7/m     FNSTSW   Mw   fpu nosize
dd/0/r     FFREE    Nq   fpu nosize
dd/1/r     FXCH     Nq   fpu nosize
dd/2/r     FST      Nq   fpu nosize
dd/3/r     FSTP     Nq   fpu nosize
dd/4/r     FUCOM    Nq   fpu nosize
dd/5/r     FUCOMP   Nq   fpu nosize

de/0/m     FIADD    Mw   fpu nosize
de/1/m     FIMUL    Mw   fpu nosize
de/2/m     FICOM    Mw   fpu nosize
de/3/m     FICOMP   Mw   fpu nosize
de/4/m     FISUB    Mw   fpu nosize
de/5/m     FISUBR   Mw   fpu nosize
de/6/m     FIDIV    Mw   fpu nosize
de/7/m     FIDIVR   Mw   fpu nosize
de/0/r     FADDP    Nq   fpu nosize
de/1/r     FMULP    Nq   fpu nosize
de/2/r     FCOMP    Nq   fpu nosize
de/3/r1    FCOMPP        fpu nosize
de/4/r     FSUBRP   Nq   fpu nosize
de/5/r     FSUBP    Nq   fpu nosize
de/6/r     FDIVRP   Nq   fpu nosize
de/7/r     FDIVP    Nq   fpu nosize

df/0/m     FILD     Mw   fpu nosize
df/1/m     FISTTP   Mw   fpu nosize ?sse3
df/2/m     FIST     Mw   fpu nosize
df/3/m     FISTP    Mw   fpu nosize
df/4/m     FBLD     M    fpu nosize
df/5/m     FILD     Mq   fpu nosize
df/6/m     FBSTP    M    fpu nosize
df/7/m     FISTP    Mq   fpu nosize
df/0/r     FFREEP   Nq   fpu nosize
df/1/r     FXCH     Nq   fpu nosize
df/2/r     FSTP     Nq   fpu nosize
df/3/r     FSTP     Nq   fpu nosize
df/4/r0    FNSTSW   AX   fpu nosize
df/5/r     FUCOMIP  Nq   fpu nosize ?cmov
df/6/r     FCOMIP   Nq   fpu nosize ?cmov

9b         FWAIT         nosize
""")
