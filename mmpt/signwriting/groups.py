"""The 30 symbol groups of the ISWA 2010."""

_STARTS = """100 10e 11e 144 14c 186 1a4 1ba 1cd 1f5
    205 216 22a 255 265 288 2a6 2b7 2d5 2e3 2f7 2ff 30a 32a 33b 359 36d 376 37f 387"""
GROUPS = tuple(int(start, 16) for start in _STARTS.split())
"""First base of each group: ten of hands, then contact, movement, dynamics, head, body, location, ..."""
HANDS = 10
"""Number of groups of hands, which come first."""
