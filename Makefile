# make setup    the environment in .venv, from requirements.lock; everything below does it when needed
# make demo     the whole way, on a small archive made on the spot
# make test     all tests, in several processes at once; ARGS goes to pytest:
#               make test ARGS="-m 'not ray and not browser' -x"
# make soak     what takes long: extractions that are killed again and again, clusters that lose machines,
#               drivers and heads, an evaluation of 1,000,000 rows, and a service that is killed; up to
#               two hours and a quarter, 12 GB of memory
#               and 10 GB of disk
# make readers  that other tools read a gallery to the byte: DataFusion, Daft, LanceDB, ClickHouse and
#               Spark, and its labels: pycocotools and py-motmetrics; in an environment of their own
#               (2 GB; Spark needs Java)
# make azure    what tests hold of galleries in object stores, against Azure's emulator (needs npm)
# make lint     style, spelling, types (of the page, too: needs npm) and the direction of imports
# make docs     the documentation site, in build/site
# make format   lay the code out
# make lock     requirements.lock from what .venv holds
# make clean    everything that can be made again, except the environments

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
READERS := .venv-readers
NODE := tests/service/node
AZURE := tests/azure
FOLDERS := $(wildcard pipeline jobs cluster tests benchmarks examples regallery.py)
ARGS ?=
PROCESSES ?= 4

.PHONY: setup demo test soak readers azure lint docs docs/commands.md format lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv: some minutes, 7 GB"
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

demo: $(READY)
	$(BIN)/regallery demo $(ARGS)

# Each process, and each that the tests start, would compile the sources again. The tests that look
# for barriers in the page need npm; where it is absent, they are skipped.
test: export PYTHONDONTWRITEBYTECODE =
test: $(READY) $(if $(shell command -v npm),$(NODE)/node_modules/.ready)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(READY)
	$(BIN)/python benchmarks/soak.py --kills 30 --crops 2000
	$(BIN)/python benchmarks/soak.py --kills 6 --crops 2000 --actors 2 --victim worker
	PYTHONPATH=. $(BIN)/python benchmarks/cluster_kills.py --crops 12000 --rows 40000
	PYTHONPATH=. $(BIN)/python benchmarks/cluster_kills.py --crops 3000 --rows 40000 --s3 --submit \
	  --event node worker driver head
	$(BIN)/python benchmarks/million.py --rows 1000000
	$(BIN)/python benchmarks/serve_soak.py --minutes 15

# Daft needs an older pyarrow than the rest: what lies here goes before what .venv holds.
$(READERS)/.ready: requirements-readers.lock $(READY)
	test -x $(READERS)/bin/python || $(BIN)/python -m venv $(READERS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > $$($(READERS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth
	$(READERS)/bin/python -m pip install --quiet --no-deps -r requirements-readers.lock
	touch $@

readers: $(READERS)/.ready
	$(READERS)/bin/python -m pytest -q -p no:cacheprovider tests/gallery/test_readers.py tests/runs/test_labeling.py \
	  "tests/test_docs.py::test_snippets_run" $(ARGS)

# The emulator takes 190 MB, so neither `make test` nor the build machine has it.
azure: $(READY) $(AZURE)/node_modules/.ready
	STORE_OF_TESTS=azure $(BIN)/python -m pytest -q tests/gallery/object_store tests/gallery/test_histories.py \
	  tests/jobs/test_object_store.py $(ARGS)

# In $(NODE): TypeScript, which checks the page of the service, and what looks for barriers in it.
%/node_modules/.ready: %/package-lock.json
	cd $* && npm ci --silent --ignore-scripts
	touch $@

lint: $(READY) $(NODE)/node_modules/.ready
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $(FOLDERS) docs $(wildcard *.md)
	cd $(NODE) && npm run --silent types

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs/commands.md: $(READY)
	$(BIN)/python -m jobs.command.reference > $@.new
	mv $@.new $@

format: $(READY)
	$(BIN)/ruff check --fix $(FOLDERS)
	$(BIN)/ruff format $(FOLDERS)

# Torch for NVIDIA comes with packages that exist for one kind of machine only, and its releases for
# 64-bit Arm are another version.
ON_X86 := ; sys_platform == 'linux' and platform_machine == 'x86_64'
NOT_ON_ARM := ; platform_machine != 'aarch64'
ON_ARM := ; platform_machine == 'aarch64'

lock:
	{ echo "# Every package of the environment, pinned. Renew it by: make lock"; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed -E \
	    -e "s/^(nvidia|cuda|triton)[-=].*/&$(ON_X86)/" \
	    -e "s/^(torch|torchvision)==.*/&$(NOT_ON_ARM)/"; \
	  echo "torch==2.9.1$(ON_ARM)"; \
	  echo "torchvision==0.24.1$(ON_ARM)"; \
	} > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf build dist *.egg-info demo-output .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +
