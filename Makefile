# Everything runs in .venv, which is made when it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := .cache/demo

BROWSER := chromium chromium-driver

.PHONY: demo bench test lint test-slow test-e2e bench-review browser clean

demo: $(READY)
	$(BIN)/python -m examples.render $(DEMO)/scenes --dataset shanghaitech-a --scenes 3 --seed 7
	$(BIN)/dpmo convert --dataset shanghaitech-a --root $(DEMO)/scenes/shanghaitech-a --out $(DEMO)/out
	$(BIN)/dpmo validate $(DEMO)/out
	@echo "Masks of drawn crowds, by nano, the small embedded network:"
	@$(BIN)/dpmo visualize $(DEMO)/out --sample 3 --no-discs -o $(DEMO)/masks.png

# The stock path and ours, then the plain loop and `dpmo convert`: about three minutes on two cores.
bench: $(READY)
	$(BIN)/dpmo bench --sam vit_b --points 500 --size 1024x768
	$(BIN)/python -m examples.render $(DEMO)/scenes --dataset shanghaitech-a --scenes 3 --seed 7
	$(BIN)/python -m examples.compare_plain --dataset shanghaitech-a --root $(DEMO)/scenes/shanghaitech-a

# A worker per core, each with one thread of torch's; a file's tests share what they have set up.
test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow and not e2e"

# The review page in Chromium.
test-e2e: $(READY) browser
	$(BIN)/python -m pytest -m "e2e and not slow" tests/e2e

# How fast the review page is, and what memory it takes: prints a table.
bench-review: $(READY) browser
	$(BIN)/python -m pytest -m "e2e and slow" -s tests/e2e

# Installed where it is missing (Debian, as root).
browser:
	@command -v chromedriver > /dev/null || { \
	  [ "$$(id -u)" = 0 ] || { echo "install $(BROWSER), then run this again" >&2; exit 1; }; \
	  apt-get update -q && apt-get install -q -y --no-install-recommends $(BROWSER); }

clean:
	rm -rf $(VENV) .cache

$(READY): pyproject.toml
	@echo "setting up $(VENV): some minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(READY)
