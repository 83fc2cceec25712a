# Each target sets up .venv by itself on first use. ARGS are passed on: make run ARGS=--once, make test ARGS="-k journey".
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11 python,$(shell command -v $(name) >/dev/null && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV := .venv/bin
READY := .venv/.complete

# where a machine forbids bytecode every process would compile all our modules anew: an eighth of its start
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test lint format bench proof

run: $(READY)    ; @$(VENV)/python -m services $(ARGS)
test: $(READY)   ; @$(VENV)/python -m pytest --numprocesses=auto --dist=worksteal $(ARGS)
lint: $(READY)   ; @$(VENV)/ruff check && $(VENV)/ruff format --check && $(VENV)/mypy
format: $(READY) ; @$(VENV)/ruff check --fix && $(VENV)/ruff format
bench: $(READY)  ; @$(VENV)/python -m tests.bench $(ARGS)
proof: $(READY)  ; @$(VENV)/python -m tests.proof $(ARGS)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Il faut Python 3.11 ou plus récent : installez-le, ou indiquez-le par « make run PYTHON=/chemin/vers/python3 »."; exit 1; }
	@echo "Installation des dépendances dans .venv, une fois (une minute environ)…"
	@$(PYTHON) -m venv .venv || { echo "Python ne sait pas créer .venv : installez son module venv (Debian, Ubuntu : apt-get install python3-venv)."; exit 1; }
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore $(VENV)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
