"""How fast a bundle runs on this machine, measured through the engine's public methods: the verb `bench`."""
