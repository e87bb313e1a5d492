"""The loop over recorded candles, with a stepped clock.

To change a scenario and how it must end, see scenarios.py; what happens when, see plan.py and simulation.py.
To change the report, see report.py and facts.py; the proof of the ledger, see proof.py.
May import candlecast, jobs, local, monitoring and training.
"""
