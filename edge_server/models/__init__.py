"""The models of a server: which are in memory, loading them, letting them go."""
