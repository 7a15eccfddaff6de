#!/usr/bin/env bash
# sanitize.sh BUILD PYTHON: the tests of ops, core and programs on a build made with -fsanitize=address,undefined.
set -euo pipefail
build=$1 python=$2
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
cp -r python/dlcore "$site/dlcore"
cp "$build"/_core*.so "$site/dlcore/"
export PYTHONPATH=$site:$PWD PYTHONMALLOC=malloc
# Python itself leaves memory behind at its end: leaks are not looked for.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so) $(g++ -print-file-name=libstdc++.so.6)" \
  "$python" -m pytest tests/ops tests/core --ignore tests/core/test_object_code.py \
  tests/test_determinism.py tests/test_precision.py tests/test_program_file.py tests/test_steady_state.py \
  -q -p no:cacheprovider -m "not slow" --capture=sys  # what a sanitizer prints before it ends the process is seen
