# Each target makes the environment that it needs, in .venv, from constraints.txt.
PYTHON ?= python3
ALPHA ?= 1.5
OUT ?= results/alpha-$(ALPHA)
BIN := .venv/bin
ASV := $(BIN)/asv
MACHINE = $$($(BIN)/python -c "from bench.record import machine; print(machine())")
REVISION ?= HEAD

.PHONY: study test oldest bare dist lint bench docs site verify track history gate dashboard gpu gpu-quick

study: .venv/installed  ## measure SGD, Muon and Newton's method, and write the report
	$(BIN)/memsolve capacity --alpha "$(ALPHA)" --out "$(OUT)/capacity" --resume
	$(BIN)/memsolve saturation --alpha "$(ALPHA)" --out "$(OUT)/saturation" --resume
	$(BIN)/memsolve report "$(OUT)/capacity" "$(OUT)/saturation" --out "$(OUT)"

test: .venv/installed  ## run all tests, a file a process; those that need a GPU are skipped without one
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -p no:benchmark

oldest: .venv/installed  ## compile every kernel with the oldest Triton that is supported
	$(BIN)/pip install --quiet --upgrade --no-deps --target .venv/oldest triton==3.6.0
	PYTHONPATH=.venv/oldest $(BIN)/pytest tests/kernels/test_compiled.py tests/*/test_rehearsal.py

bare:  ## test the kernels' own distribution where only what it needs is installed
	$(PYTHON) -m venv --clear .venv/bare
	.venv/bare/bin/pip install --quiet --constraint constraints.txt './kernels[test]'
	OMP_NUM_THREADS=1 .venv/bare/bin/pytest tests/kernels

dist: .venv/installed  ## build wheels and source archives of memsolve and memsolve-kernels
	$(BIN)/python -m build --outdir dist kernels
	$(BIN)/python -m build --outdir dist

lint: .venv/installed  ## check lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/installed  ## print speed next to peers and ceilings, on this machine
	$(BIN)/python -m bench $(BENCH)

docs: .venv/installed  ## run the tutorial and build the documentation site in site/
	$(BIN)/python docs/build.py

site: .venv/installed  ## make the leaderboard's pages in site/leaderboard from records/
	$(BIN)/python -m memsolve.records.site records site/leaderboard

verify: .venv/installed  ## run the smallest problems of the records that differ from BASE again
	records=$$(git diff --name-only --diff-filter=AM "$(or $(BASE),main)..." -- 'records/*.json') && \
		if [ -z "$$records" ]; then echo "no record differs from $(or $(BASE),main)"; \
		else OMP_NUM_THREADS=1 $(BIN)/memsolve leaderboard verify --trust --jobs 2 $$records; fi

track: .venv/installed  ## record REVISION for asv, with the environment at hand
	tree=$$(mktemp -d) && trap 'rm -r "$$tree"' EXIT && machine=$(MACHINE) && \
		commit=$$(git rev-parse --verify "$(REVISION)^{commit}") && \
		git archive "$$commit" kernels memsolve | tar -x -C "$$tree" && \
		$(ASV) machine --yes --machine "$$machine" && \
		ASV_PYTHONPATH="$$tree:$$tree/kernels" $(ASV) run --python=same --show-stderr \
		--machine "$$machine" --set-commit-hash "$$commit" $(if $(BENCH),--bench "(?i)$(BENCH)")

history: .venv/installed  ## record RANGE for asv, each commit in an environment of its own
	machine=$(MACHINE) && $(ASV) machine --yes --machine "$$machine" && \
		$(ASV) run --machine "$$machine" $(if $(BENCH),--bench "(?i)$(BENCH)") \
		$(or $(RANGE),HEAD~10..HEAD)

gate: .venv/installed  ## compare BASE with the last commit: fails if slower, forgetful, spilling or longer by count
	$(BIN)/python -m bench.gate $(or $(BASE),$(error name the revision to compare with: make gate BASE=main))

dashboard: .venv/installed  ## make asv's site of all recorded commits, in .asv/html
	$(ASV) publish --no-pull

gpu gpu-quick:  ## all that needs a GPU, or PART="tests softmax ...", recorded in OUT
	PYTHONPATH=.:kernels $(PYTHON) -m bench.gpu $(if $(filter gpu-quick,$@),--quick) \
		$(if $(PART),--part $(PART)) $(if $(LIMIT),--limit $(LIMIT)) \
		$(if $(filter-out file,$(origin OUT)),--out "$(OUT)")

.venv/installed: pyproject.toml constraints.txt hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "memsolve needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
