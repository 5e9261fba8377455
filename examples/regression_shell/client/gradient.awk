# Reads the model (8 numbers) and then the patients' file, and prints the model after one step down this client's
# gradient, and its number of patients; or with score=1 the mean square error alone.
# The client's are the rows number `first`, `first + step` … below `end`.
BEGIN {
    split("48.5 1.5 26.4 94.6 49.8 4.64 91.3", mean)
    split("13.1 0.5 4.4 13.8 12.9 0.52 11.5", scale)
}
FNR == NR { w[NR] = $1 + 0; next }
FNR == 1 {
    if (NR != 9) { print "the model has " NR - 1 " numbers and not 8" >"/dev/stderr"; failed = 1; exit 1 }
    next
}
FNR - 2 >= first && FNR - 2 < end && (FNR - 2 - first) % step == 0 {
    split($0, row, ",")
    error = w[8] - row[8]
    for (i = 1; i <= 7; i++) { x[i] = (row[i] - mean[i]) / scale[i]; error += w[i] * x[i] }
    for (i = 1; i <= 7; i++) slope[i] += error * x[i]
    slope[8] += error
    square += error * error
    n++
}
END {
    if (failed) exit 1
    if (!n) { print "this client has no patients" >"/dev/stderr"; exit 1 }
    if (score) { printf "%.17g\n", square / n; exit }
    for (i = 1; i <= 8; i++) printf "%.17g\n", w[i] - rate * slope[i] / n
    print n
}
