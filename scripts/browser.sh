#!/usr/bin/env bash
# browser.sh: installs playwright-core and axe-core under target/tools/browser, and Debian's chromium, for the test of the status page.
# If one cannot be had, it prints a message, and that test is skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=target/tools/browser
scripts/need.sh chromium=chromium npm=npm || { echo "need: without a browser, its test is skipped" >&2; exit 0; }
[ -d $folder/node_modules/axe-core ] && [ -d $folder/node_modules/playwright-core ] && exit 0
echo "need: fetching playwright-core and axe-core (npm) into $folder" >&2
mkdir -p $folder
# Without this variable, playwright-core would look for a browser of its own.
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
npm install --silent --no-audit --no-fund --ignore-scripts --prefix $folder playwright-core@1.65.1 axe-core@4.14.1 ||
    { rm -rf $folder; echo "need: without playwright-core and axe-core, the test of the page in a browser is skipped" >&2; }
