"""The packages of `pyproject.toml`: the folders of the repository, under the one name `seedmap`."""

from setuptools import find_packages, setup

FOLDERS = ("trainer", "hmm", "experiments")
packages = find_packages(include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)])
setup(packages=["seedmap", "seedmap.callbacks", *(f"seedmap.{package}" for package in packages)])
