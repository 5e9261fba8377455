# sh validate.sh IN OUT: the mean square error on this client's patients.
set -e
. ./tensors.sh
printf '{"mse": %s}' "$(model "$1" | awk $rows -v score=1 -f gradient.awk - "$data")" >"$2"
