# Safetensors in a shell: a length of 8 bytes, a header in JSON, and the numbers as they are in memory.
# Needs od, awk, sed and printf, on a little-endian machine.

# numbers FILE NAME: the numbers of a float64 tensor, one a line.
numbers() {
    length=$(od -An -v -t u8 -N 8 "$1" | tr -d ' ')
    place=$(tail -c +9 "$1" | head -c "$length" |
        sed -n "s/.*\"$2\": *{[^}]*\"data_offsets\": *\[\([0-9]*\), *\([0-9]*\)\].*/\1 \2/p")
    [ -n "$place" ] || { echo "$1 has no tensor $2" >&2; exit 1; }
    tail -c +$((9 + length + ${place% *})) "$1" | head -c $((${place#* } - ${place% *})) | od -An -v -t f8 -w8
}

# model FILE: all 8 numbers of a model, the intercept last.
model() {
    numbers "$1" coefficients
    numbers "$1" intercept
}

# save FILE: a model from 8 lines on standard input.
save() {
    header='{"coefficients":{"dtype":"F64","shape":[7],"data_offsets":[0,56]},'
    header=$header'"intercept":{"dtype":"F64","shape":[1],"data_offsets":[56,64]}}'
    { printf '%016x\n' "${#header}" | bytes; printf '%s' "$header"; awk -f float64.awk | bytes; } >"$1"
}

# Each line's 16 hexadecimal digits as 8 bytes, the last byte first.
bytes() {
    printf "$(awk '{
        for (i = 15; i > 0; i -= 2)
            printf "\\%03o", 16 * digit(substr($0, i, 1)) + digit(substr($0, i + 1, 1))
    }
    function digit(c) { return index("0123456789abcdef", c) - 1 }')"
}

# The file of patients, and the numbers that choose this client's rows. The last 42 are the evaluator's.
data=${FEDN_DATA_PATH:-../../numpy_regression/data/diabetes.csv}
if [ "${FEDMQ_EVALUATOR:-0}" = 1 ]; then
    rows='-v first=400 -v step=1 -v end=442'
else
    rows="-v first=${FEDMQ_ORDINAL:-0} -v step=${FEDMQ_COUNT:-1} -v end=400"
fi
