"""What the machine at hand does, measured into a profile, JSON and a page with pictures: the verb `profile`."""
