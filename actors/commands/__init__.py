"""The commands of ``callboard`` as they are typed. ``--help`` imports them all; what they do is imported to be done."""
