.PHONY: setup format check test test-all

setup:
	python -m pip install -e '.[test]' pre-commit
	pre-commit install

format:
	ruff check --fix .
	ruff format .

check:
	ruff check .
	ruff format --check .
	mypy

test:
	python -m pytest -m 'not slow'

test-all:
	python -m pytest
