#!/bin/sh
# Qwen3 on Burn, on a machine without Rust or a network.
#
#   run.sh                      parity, verify and bench on every backend built in; reports go to ./results
#   run.sh parity|verify|bench [ARGUMENTS]     one of them, with arguments of its own (see --help of each)
#
# Exit code: the largest of the three; 0 when everything passed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
backends=@BACKENDS@
mkdir -p results || exit 2

parity() {
    "$here/fixture-runner" parity --manifest "$here/manifest.json" --backend "$backends" \
        --json results/parity.json "$@"
}

verify() {
    "$here/fixture-runner" verify --model "$here/fixtures/checkpoints/gqa-tied" \
        --reference "$here/fixtures/gqa-tied/prompt1/reference.npz" --backend "$backends" \
        --json results/verify.json --html results/verify.html "$@"
}

bench() {
    "$here/qwen3-bench" --qwen3 "$here/qwen3" --fixture-runner "$here/fixture-runner" \
        --manifest "$here/manifest.json" --work results/models --backend "$backends" \
        --json results/bench.json --html results/bench.html "$@"
}

case "${1-all}" in
parity | verify | bench)
    "$@"
    exit
    ;;
all) ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

worst=0
for step in parity verify "bench --synthetic 0.6b"; do
    echo "== $step"
    $step
    code=$?
    [ "$code" -gt "$worst" ] && worst=$code
done
exit "$worst"
