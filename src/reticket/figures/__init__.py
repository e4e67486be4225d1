"""What a figure, a table and a sentence of a report are made of; knows no experiment and imports no matplotlib to plan.

`drawing` alone draws. The numbers of the paper stand here too, because figures show them beside measured ones.
"""
