"""The inside of the sandbox: scripts of the standard library alone, started apart from the rest of the package.

Nothing here may import anything else of ours: inside of a sandbox there is nothing else of ours.
"""
