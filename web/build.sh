#!/usr/bin/env bash
# Bundles the web page into one file with everything in it, which the next build of moiety takes in: page.html, the same as
# page.html.gz, and page.csp, the Content-Security-Policy that lets exactly its script and its style run. The libraries come
# from npm as package-lock.json has them; once they are there, no network is needed.
#   web/build.sh [FOLDER]     FOLDER is build/web unless given
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/web}

if ! command -v npm > /dev/null; then
  echo "web/build.sh: npm is not installed; moiety is built without its web page" >&2
  exit 1
fi
mkdir -p "$folder"
# The lock file, copied last, says that an installation is complete.
if ! cmp -s web/package-lock.json "$folder/installed.json"; then
  cp web/package.json web/package-lock.json "$folder"
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error > /dev/null
  cp web/package-lock.json "$folder/installed.json"
fi
node web/bundle.mjs "$folder"
