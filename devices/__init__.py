"""What a device is: profiles as data, detection of the machine at hand. Imported by every other stage."""
