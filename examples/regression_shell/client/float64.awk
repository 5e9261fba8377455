# Each line's number as the 16 hexadecimal digits of its IEEE 754 double; what is too small for 52 bits is zero.
tolower($1) ~ /inf|nan/ { print "7ff8000000000000"; next }
{
    x = $1 + 0; sign = 0
    if (x < 0) { sign = 1; x = -x }
    exponent = 1023
    if (x == 0) exponent = 0
    else {
        while (x >= 2) { x /= 2; exponent++ }
        while (x < 1) { x *= 2; exponent-- }
        x -= 1
        if (exponent < 1) { exponent = 0; x = 0 }
    }
    # The first 20 bits of the fraction, and then 32: awk's own numbers hold no more at once.
    high = int(x * 1048576)
    low = (x * 1048576 - high) * 4294967296
    printf "%03x%05x%04x%04x\n", sign * 2048 + exponent, high, int(low / 65536), low % 65536
}
