"""Lets pips that predate PEP 660 install this package in editable mode; setup.cfg says everything."""
from setuptools import setup

setup()
