"""The commands of ``callboard workflow`` as they are typed. Light, as ``actors.commands``."""
