"""x"""

GROUPS = ()
