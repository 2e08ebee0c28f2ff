"""Conversations: a template renders the prompt, a grammar reads the answer. It knows no engine and no token ids."""
