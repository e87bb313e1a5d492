"""The bundles being served, and the threads that reload them as aliases move.

To change how a version is loaded and kept, see reloader.py; all markets of a process, see reloaders.py.
To change what replicas know of one another, see replicas.py.
May import http and candlecast.
"""
