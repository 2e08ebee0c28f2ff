"""Models that think in `<think>...</think>` and call no tools."""

from moedge.runtime.chat.grammar import THINK, Grammar, thinking_steps

THINK_ONLY = Grammar(steps=thinking_steps({}), think=THINK)
