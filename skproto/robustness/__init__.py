"""Robustness of fitted classifiers: attacks, and accuracy that is certified.

A certified radius says that no smaller change alters a prediction; an attack looks for
a change that does. Each keeps the other honest: an attack that succeeds within a
certified radius refutes the certificate, and the smallest attack found shows how much
a certificate leaves on the table.
"""

from skproto.robustness._attack import AttackResult, attack, certified_accuracy

__all__ = ["AttackResult", "attack", "certified_accuracy"]
