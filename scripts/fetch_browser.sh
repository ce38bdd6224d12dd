#!/usr/bin/env bash
# Chromium and axe-core, for the tests that look at pages (tests/pages skip, and say why, where these are missing).
set -uo pipefail
cd "$(dirname "$0")/.."
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi
if [ ! -f build/axe-core/axe.min.js ] && command -v npm >/dev/null; then
  mkdir -p build/axe-core
  (cd build/axe-core && npm pack --silent axe-core@4.14.1 >/dev/null && tar xzf axe-core-*.tgz --strip-components=1 package/axe.min.js)
fi
exit 0
