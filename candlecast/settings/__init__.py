"""Settings of a process: names, defaults, rules, and the sources they are read from.

To add or change a setting of a group, see groups.py; of the root, settings.py; a rule for values, rules.py;
a default that depends on interval and horizon, limits.py.
To change where values come from and their order, see sources.py; what candlecast.toml may hold, see file.py;
the values of single markets, recipes.py.
May import errors and market.
"""
