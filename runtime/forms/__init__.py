"""What an answer may be, written as grammars: contents of a form, and tool calls as each chat format spells them."""
