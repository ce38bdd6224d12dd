#!/usr/bin/env bash
# From the wheel in an environment that has nothing: `biject init x && cd x && make run`, timed after the install.
# Usage: scripts/fresh_environment.sh [MODEL] [PYTHON]; MODEL is a folder or a repository. Fails above 120 seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
model=${1:-$root/.cache/real/bert-tiny-mlm}
python=${2:-python3}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$python" -m venv "$place/build"
"$place/build/bin/python" -m pip install --quiet --disable-pip-version-check build
"$place/build/bin/python" -m build --wheel --outdir "$place/wheel" . >/dev/null
"$python" -m venv "$place/venv"
pip=("$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt)
began=$SECONDS
"${pip[@]}" torch==2.13.0
"${pip[@]}" "$(echo "$place"/wheel/*.whl)[verify]"
echo "install: $((SECONDS - began)) s"
unset PYTHONPATH
export PATH="$place/venv/bin:$PATH" BIJECT_CACHE="$place/cache"
cd "$place"
began=$SECONDS
biject init x --model "$model"
cd x
make run
seconds=$((SECONDS - began))
make predict
test -f runs/first/model/model.safetensors
echo "biject init x && cd x && make run: $seconds s"
[ "$seconds" -le 120 ]
