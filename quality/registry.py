"""Every rule, in the order of its id."""

from __future__ import annotations

from quality.rule import Rule
from quality.rules import (
    clk001,
    clk002,
    clk003,
    clk004,
    dec001,
    dec002,
    dec003,
    dec004,
    dec005,
    dec006,
    dst001,
    dst002,
    dst003,
    dst004,
    dst005,
    dst006,
    dst007,
    evl001,
    lbl001,
    lbl002,
    lbl003,
    lbl004,
    str001,
    str002,
    str003,
    str004,
    str005,
    str006,
    syn001,
    syn002,
    syn003,
    syn004,
    syn005,
    syn006,
    syn007,
    syn008,
    syn009,
    syn010,
)

_MODULES = (
    *(str001, str002, str003, str004, str005, str006),
    *(dec001, dec002, dec003, dec004, dec005, dec006),
    *(clk001, clk002, clk003, clk004),
    *(syn001, syn002, syn003, syn004, syn005, syn006, syn007, syn008, syn009, syn010),
    *(lbl001, lbl002, lbl003, lbl004),
    *(dst001, dst002, dst003, dst004, dst005, dst006, dst007),
    evl001,
)
RULES: tuple[Rule, ...] = tuple(module.RULE for module in _MODULES)
