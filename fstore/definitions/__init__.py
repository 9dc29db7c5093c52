"""What is declared: the feature language and the project it adds up to.

Definition modules import from here (through ``fstore``); nothing here computes, connects or reads data.
"""
