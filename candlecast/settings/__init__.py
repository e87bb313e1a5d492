"""Settings of a process: names, defaults, rules, and the sources they are read from.

To add or change a setting of a group, see groups.py; of the root, settings.py; a rule for values, rules.py;
a default that depends on interval and horizon, limits.py.
To change where values come from, their order, or the refusal of an unknown key, see sources.py.
May import errors and market.
"""
