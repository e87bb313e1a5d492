"""The bundles being served, and the threads that reload them as aliases move.

To change what is served, see served.py; how it is loaded and reloaded, see reloader.py; all markets, see reloaders.py.
To change when requests should come, see readiness.py; what replicas know of one another, see replicas.py.
May import candlecast and http.
"""
