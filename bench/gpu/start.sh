#!/usr/bin/env bash
# Unpacks what `deno task gpu-day pack` made, and starts the day: on a machine that has no Deno yet.
#
#   bash start.sh first|second|rehearsal|STAGE,STAGE [options, see README.md]
#
# WORK=DIR is where to unpack, instead of the folder `unpacked` beside this file; what is unpacked is used
# again. TREE=DIR is tried instead of the packed tree. All other code is TypeScript, in the tree.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-$here/unpacked}
mkdir -p "$work"
work=$(cd "$work" && pwd)

# Not every machine has xz; Python has its own.
plain() { # NAME TO
  if [ -e "$here/$1" ]; then cp "$here/$1" "$2"
  elif xz --version >/dev/null 2>&1; then xz -dc "$here/$1.xz" >"$2"
  else python3 -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"), 1 << 20)' "$here/$1.xz" "$2"; fi
}

if ! cmp -s "$here/contents.json" "$work/contents.json"; then
  rm -rf "$work/contents.json" "$work/packages" "$work/tree"
  plain deno "$work/deno" & one=$!
  plain packages.tar "$work/packages.tar" & two=$!
  plain tree.tar "$work/tree.tar"
  wait $one
  wait $two
  chmod +x "$work/deno"
  for part in packages tree; do
    mkdir "$work/$part"
    # Root would otherwise give files to whoever owned them where they were packed.
    tar -xf "$work/$part.tar" --no-same-owner -C "$work/$part"
    rm "$work/$part.tar"
  done
  cp "$here/contents.json" "$work/contents.json"
fi

export DENO_DIR=$work/packages/deno FORMANT_LIBRARIES=$work/packages/libraries
export DENO_NO_UPDATE_CHECK=1 NO_COLOR=1
exec "$work/deno" run -A --cached-only --no-check "${TREE:-$work/tree}/bench/gpu/main.ts" --work "$work" "$@"
