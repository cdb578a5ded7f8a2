"""What the commands of ``callboard`` do once they are read: not imported before they run."""
