# sh train.sh IN OUT: one step of gradient descent on this client's patients.
set -e
. ./tensors.sh
rate=$(sed -n 's/.*"learning_rate": *\([0-9.eE+-]*\).*/\1/p' "$1-metadata")
result=$(model "$1" | awk $rows -v rate="${rate:-0.6}" -f gradient.awk - "$data")
printf '%s\n' "$result" | head -n 8 | save "$2"
printf '{"num_examples": %d}' "$(printf '%s\n' "$result" | tail -n 1)" >"$2-metadata"
