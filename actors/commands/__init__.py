"""What the commands of ``callboard`` do, one file for each concern; ``cli.py`` parses and calls them."""
