# make demo, make test: everything on a fresh machine with Python >= 3.11. make check: the gate, the same here and in CI.
# make test-all: the tests that take long too, as before a release.
# make bench: training, evaluation and matching against a plain PyTorch loop, into benchmarks/results and docs/speed.md.
# make bench-matching: the matching methods, into benchmarks/results and docs/matching.md. Trained pairs and noise go on where they were interrupted;
# remove pairs.json and noise.json there to measure them anew. PyPI's rebasin (and its torchview, graphviz, tqdm) is measured where it is installed.
# make kills: a run of two jobs killed 70 times, its driver, a worker or all of it drawn by chance, and resumed; 35 times as processes, 35 as threads
# (RETICKET_KILLS=10 for fewer, RETICKET_KILL_EXPERIMENT=digits for another experiment). make fuzz: 5,000 random networks whose function must stay,
# and damaged files of every kind; RETICKET_FUZZ=500 RETICKET_FUZZ_SEED=1500 for 500 networks from number 1,500 on.
# make mutants: every rule of symmetry discovery broken in every way, one at a time; the tests must notice.
# make test-presets: every preset at one epoch and 256 made-up images, nothing else changed; what takes over 30 minutes is left out.
# make test-operators: the freedom found of some 370 operators beside the one that brute force finds, into docs/operators.md (15 minutes).
# make test-ray: a Ray cluster of two machines, which are network namespaces (as root), and 30 times kill -9 with Ray; half an hour.
# make test-zoo: the symmetry of every model of the zoo, of which make test takes six, and a wide sweep, into docs/zoo.md;
# what the sweep has measured is kept in runs/zoo, so that after an interruption make test-zoo goes on.
# make test-slurm: a real SLURM of one node, started in a folder of its own (Debian's slurm-wlm and munge, as root), whose jobs are disturbed.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
JOBS ?= 2
RUN = OMP_NUM_THREADS=1 $(VENV)/bin

.PHONY: install demo test test-all test-presets test-operators test-ray test-slurm test-zoo check format kills fuzz mutants bench bench-matching clean
.DELETE_ON_ERROR:

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed, $$($(PYTHON) --version) was found; name another with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) torch
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

demo: install
	$(VENV)/bin/reticket run digits --jobs $(JOBS) --out runs/demo

test: check
	$(RUN)/python -m pytest -q -n $(JOBS) --dist worksteal

test-all: check
	RETICKET_FUZZ=$(or $(RETICKET_FUZZ),100) $(RUN)/python -m pytest -q -n $(JOBS) --dist worksteal -m 'slow or not slow'

test-zoo: install
	$(RUN)/python -m pytest -q -n $(JOBS) --dist worksteal -m 'zoo or not zoo' tests/zoo
	$(RUN)/python -m tests.zoo --jobs $(JOBS) --page docs/zoo.md

test-operators: install
	$(RUN)/python -m tests.operators docs/operators.md --least 240

test-ray: install
	RETICKET_RAY_KILLS=$(or $(RETICKET_RAY_KILLS),30) $(RUN)/python -m pytest -q -s -m slow tests/e2e/test_ray_nodes.py tests/e2e/test_ray_killed.py

test-slurm: install
	$(RUN)/python -m tests.slurm

test-presets: install
	rm -rf runs/presets && $(RUN)/python -m tests.presets runs/presets --whole

check: install
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pyright

format: install
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis

mutants: install
	$(RUN)/python -m tests.mutants

# DATA=folder of the real data; without it images of the same shape are made
bench: install
	$(RUN)/python -m benchmarks $(if $(DATA),--data $(DATA)) --page docs/speed.md
	$(RUN)/python -m benchmarks.stacked

# matching against layer by layer (time, memory), planted permutations, trained pairs by every method, and their table; takes hours
bench-matching: install
	$(RUN)/python -m benchmarks.matching $(if $(DATA),--data $(DATA))
	$(RUN)/python -m benchmarks.planted
	$(RUN)/python -m benchmarks.noise
	$(RUN)/python -m benchmarks.pairs $(if $(DATA),--data $(DATA))
	$(RUN)/python -m benchmarks.matching_table --page docs/matching.md

fuzz: install
	RETICKET_FUZZ=$(or $(RETICKET_FUZZ),5000) $(RUN)/python -m pytest -q -n $(JOBS) --dist worksteal tests/fuzz

kills: install
	RETICKET_KILLS=$(or $(RETICKET_KILLS),35) $(RUN)/python -m pytest -q -s -m slow tests/e2e/test_killed.py
